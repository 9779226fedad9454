from __future__ import annotations

from xml.etree import ElementTree as ET

from stages.search.picture import Axis, svg_of

SVG = "{http://www.w3.org/2000/svg}"


def test_points_lie_where_their_numbers_are(answer):
    picture = ET.fromstring(svg_of(answer))
    dots = [dot for dot in picture.iter(f"{SVG}circle") if dot.get("class") == "point"]
    places = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in dots]
    assert len(places) == 2
    assert places[0][0] > places[1][0]  # the second costs less
    assert places[0][1] > places[1][1]  # and loses more
    words = [text.text for text in picture.iter(f"{SVG}text")]
    assert "B tflite/int8 ←" in words
    assert "latency_p50_ms on cpu" in words
    (goal,) = [line for line in picture.iter(f"{SVG}line") if line.get("class") == "goal"]
    assert places[1][1] >= float(goal.get("y1"))  # what is kept is below the line


def test_names_cannot_leave_the_picture(answer):
    named = answer.model_copy(update={"verdict": "<script>", "goal": '"]]>&'})
    assert "<script>" not in svg_of(named)
    ET.fromstring(svg_of(named))


def test_nothing_measured_is_a_picture_too(answer):
    assert "no file was measured" in svg_of(answer.model_copy(update={"points": (), "finalists": ()}))


def test_axes_have_round_ticks_and_hold_all_values():
    axis = Axis.of([0.13, 0.48], 0.0, 100.0)
    assert axis.ticks == [0.0, 0.1, 0.2, 0.30000000000000004, 0.4, 0.5]
    assert axis.at(0.25) == 50.0
