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


def test_what_loses_many_times_the_goal_is_left_out_and_counted(answer, file, trial):
    far = trial(7, 0.2, measured=0.7).model_copy(update={"files": (file(0.2, 0.2),)})
    last = answer.points[-1].model_copy(update={"letter": "C", "validation": file(0.2, 0.2)})
    more = {"finalists": (*answer.finalists, far), "points": (*answer.points, last)}
    picture, before = (ET.fromstring(svg_of(each)) for each in (answer.model_copy(update=more), answer))
    words = {text.text for text in picture.iter(f"{SVG}text")} - {text.text for text in before.iter(f"{SVG}text")}
    assert words == {"1 file beyond 4 points left out"}
    dots = [[dot.get("cy") for dot in each.iter(f"{SVG}circle")] for each in (picture, before)]
    assert dots[0] == dots[1]


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
