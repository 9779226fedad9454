import json

import pytest

from stages.commands.histories.figures import main_metric, said, unit, what_is
from stages.commands.histories.github_action_benchmark import exported, undeclared


@pytest.mark.parametrize(
    ("names", "main"),
    [
        (("size_bytes", "load_ms", "latency_p50_ms"), "latency_p50_ms"),
        (("size_bytes", "instructions_simd", "instructions"), "instructions"),
        (("size_bytes", "arena_head_bytes", "arena_bytes"), "arena_bytes"),
        (("estimated_npu_share", "estimated_sram_bytes", "estimated_cycles", "size_bytes"), "estimated_cycles"),
        (("estimated_npu_share", "estimated_cpu_operators", "size_bytes"), "size_bytes"),
        (("energy_mj",), "energy_mj"),
        ((), ""),
    ],
)
def test_the_main_metric_is_what_a_target_is_compared_by(names, main):
    assert main_metric(dict.fromkeys(names, 1.0)) == main


@pytest.mark.parametrize(
    ("metric", "value", "text", "in_unit"),
    [
        ("latency_p50_ms", 1.23456, "1.235 ms", "ms"),
        ("latency_p50_low_ms", 1.2, "1.2 ms", "ms"),
        ("size_bytes", 41_200.0, "41.2 kB", "bytes"),
        ("estimated_npu_share", 0.5, "0.500", "estimated_npu_share"),
        ("instructions", 94.5e6, "94.5 M", "instructions"),
        ("energy_mj", 0.25, "0.25", "energy_mj"),
    ],
)
def test_a_number_is_said_in_its_declared_unit(metric, value, text, in_unit):
    assert said(metric, value) == text
    assert unit(metric) == in_unit


def test_only_what_is_declared_better_if_smaller_is_exported_and_the_rest_is_named(days):
    metrics = {"instructions": 9.0, "estimated_npu_share": 1.0, "energy_mj": 2.0, "latency_p50_low_ms": 1.0}
    entries = days(1.0, metrics=metrics)
    assert [item["name"].split()[1] for item in json.loads(exported(entries))] == ["instructions"]
    assert undeclared(entries) == ("energy_mj",)
    assert [item["value"] for item in json.loads(exported(entries, "energy_mj"))] == [2.0]
    assert what_is("energy_mj") is None
