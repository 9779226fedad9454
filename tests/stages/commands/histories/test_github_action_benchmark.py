import json

from stages.commands.histories.github_action_benchmark import exported


def test_the_export_is_the_newest_of_each_series_as_the_action_reads_it(days):
    old, new = days(1.0, 1.2)
    counted = days(1.0, metrics={"instructions": 94.5e6, "estimated_npu_share": 1.0}, target="cortex-a72")
    items = json.loads(exported([old, new, *counted]))
    assert [(item["name"], item["value"], item["unit"]) for item in items] == [
        ("tflite/int8@cpu latency_p50_ms", 1.2, "ms"),
        ("tflite/int8@cortex-a72 instructions", 94.5e6, "instructions"),
    ]
    assert items[0]["range"] == "± 0.1"
    assert all(set(item) <= {"name", "unit", "value", "range", "extra"} for item in items)
