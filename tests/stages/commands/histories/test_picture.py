import xml.etree.ElementTree as ET

from stages.commands.histories.picture import series_of, spark, svg_of, text_of

SVG = "{http://www.w3.org/2000/svg}"


def test_a_row_of_blocks_is_in_proportion():
    assert spark([1, 2, 3, 8]) == "▁▂▃█"
    assert spark([5, 5]) == "▁▁"
    assert spark([8]) == "▁"


def test_numbers_of_other_devices_names_and_targets_stand_apart(days):
    entries = [*days(1, 2), *days(3, device={"cpu_model": "another"}), *days(4, name="x"), *days(5, target="pi")]
    assert [len(row) for row in series_of(entries, None).values()] == [2, 1, 1, 1]
    assert series_of(entries, "instructions") == {}


def test_the_text_has_a_line_an_entry_with_its_change(days):
    text = text_of(days(1.0, 1.1, 0.55, commit="0123456789abcdef"))
    head, picture, *lines = text.splitlines()
    assert head == "tflite/int8 on cpu: latency_p50_ms, a processor"
    assert picture == "▇█▁  0.55 ms … 1.1 ms"
    assert [line.split()[1] for line in lines] == ["012345678"] * 3
    assert "+10.0 %" in lines[1]
    assert "-50.0 %" in lines[2]
    assert "[1, 1.2]" in lines[1]
    assert all(len(line) <= 100 for line in text.splitlines())


def test_entries_are_in_order_of_time_whatever_the_order_of_lines(days):
    first, second = days(1.0, 2.0)
    assert text_of([second, first]) == text_of([first, second])


def test_the_svg_is_xml_with_a_point_an_entry_and_higher_is_slower(days):
    root = ET.fromstring(svg_of([*days(1.0, 2.0, 1.5), *days(3.0, name='<a&"b">')]))
    circles = root.findall(f"{SVG}circle")
    assert len(circles) == 4
    heights = [float(circle.get("cy")) for circle in circles[:3]]
    assert heights[1] < heights[2] < heights[0]
    assert any('<a&"b">' in (text.text or "") for text in root.findall(f"{SVG}text"))
    assert all(0 <= float(circle.get("cx")) <= 640 for circle in circles)


def test_counts_have_no_interval_and_their_own_main_number(days):
    counted = days(1.0, metrics={"instructions": 94.5e6, "size_bytes": 1e5}, target="cortex-a72", rounds=0)
    assert "94.5 M" in text_of(counted)
    assert ET.fromstring(svg_of(counted)) is not None
