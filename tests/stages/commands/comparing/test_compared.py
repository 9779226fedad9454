"""Check that what a comparison judges, how, and what gates call it follow from the declarations."""

import pytest

from pipeline.records.declared import declared
from pipeline.records.metrics import Metric
from stages.commands.comparing.compared import change_of, compared, gated_as, qualities, unit_of
from stages.commands.comparing.engine import Request, metrics_on
from stages.commands.comparing.exact import exact_result
from stages.commands.comparing.github import threshold
from stages.commands.comparing.measured import MEASURED
from stages.commands.comparing.result import MetricResult
from stages.commands.comparing.tolerances import Tolerances
from stages.commands.comparing.words import bound, changed, number
from stages.devices.target import Sampling, find_target
from stages.quantize.tries import speed_ratios

NAMES = {"latency", "p90", "p99", "first", "load", "memory", "size", "instructions", "arena", "cycles", "npu"}


def test_names_are_those_of_the_command_line():
    assert set(compared()) == NAMES | {"accuracy", "mse"}
    assert qualities() == ("accuracy", "mse")
    assert set(MEASURED) == set(metrics_on(find_target("cpu"))) == NAMES & set(MEASURED)


@pytest.mark.parametrize(
    ("target", "names"),
    [("cortex-a72", {"instructions"}), ("tflm", {"arena"}), ("ethos-u55-128", {"cycles", "npu"})],
)
def test_a_target_that_counts_gives_what_its_driver_declares(target, names):
    assert set(metrics_on(find_target(target))) == names


def test_what_is_only_shown_is_declared_noisy():
    request = Request([], Sampling(), 2, Tolerances())
    assert request.shown == {"p90", "p99", "first", "load", "memory"}
    assert request.held == set(compared()) - request.shown
    named = Request([], Sampling(), 2, Tolerances(), metrics=frozenset({"memory"}))
    assert (named.held, named.shown) == ({"memory"}, set())


@pytest.mark.parametrize(
    ("name", "unit", "gates"),
    [
        ("latency", "ms", ("latency_ratio", "latency_p50_ms")),
        ("p90", "ms", ("latency_p90_ms",)),
        ("p99", "ms", ("latency_p99_ms",)),
        ("first", "ms", ("first_inference_ms",)),
        ("load", "ms", ("load_ms",)),
        ("memory", "bytes", ("peak_memory_bytes",)),
        ("size", "bytes", ("size_bytes",)),
        ("instructions", "", ("instruction_ratio", "instructions")),
        ("arena", "bytes", ("arena_ratio", "arena_bytes")),
        ("cycles", "", ("estimated_cycles_ratio", "estimated_cycles")),
        ("npu", "share", ("estimated_cpu_operators", "estimated_npu_share")),
        ("accuracy", "share", ("accuracy_drop", "accuracy")),
        ("mse", "", ("mse_ratio", "mse")),
    ],
)
def test_unit_and_gates_of_each(name, unit, gates):
    assert unit_of(compared()[name]) == unit
    assert gated_as(name) == gates
    assert all(declared(gate).lower_is_better is not None for gate in gates)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        *((name, 1.0, 1.25) for name in sorted({*NAMES, "mse"} - {"npu"})),
        *((name, 1.0, 0.75) for name in ("npu", "accuracy")),
    ],
)
def test_a_change_for_the_worse_is_above_0_in_every_metric(name, before, after):
    assert change_of(compared()[name], before, after) == pytest.approx(0.25)
    assert change_of(compared()[name], after, before) < 0
    assert exact_result(name, before, after, 0.1).verdict == "regression"
    assert exact_result(name, after, before, 0.1).verdict == "ok"


def test_metrics_of_others_are_judged_as_they_declare(monkeypatch):
    faults = Metric("fault_share", "share", lower_is_better=True, judged_as="faults", tolerance=0.02)
    rate = Metric("rate_per_s", "1/s", lower_is_better=False, judged_as="rate")
    both = {**compared(), "faults": faults, "rate": rate}
    for module in ("exact", "tolerances", "words"):
        monkeypatch.setattr(f"stages.commands.comparing.{module}.compared", lambda: both)
    worse = exact_result("faults", 0.1, 0.13, Tolerances().of("faults"))
    assert (worse.verdict, changed(worse), bound(worse)) == ("regression", "+3.00 points", "≤ +2 points")
    slower = exact_result("rate", 125.0, 100.0, Tolerances().of("rate"))
    assert (slower.verdict, slower.change) == ("regression", 0.25)
    assert number(slower, slower.baseline) == "125 1/s"


def test_counts_are_said_as_counts_and_errors_as_numbers():
    said = {
        name: number(MetricResult(metric=name, unit="", baseline=1, candidate=1, change=0), value)
        for name, value in (("instructions", 94.5e6), ("cycles", 1200.5), ("mse", 1234.56))
    }
    assert said == {"instructions": "94.500 M", "cycles": "1.2 k", "mse": "1235"}


def test_a_ladder_goes_by_ratios_that_targets_declare_where_less_is_faster():
    assert speed_ratios() == ("latency_ratio", "instruction_ratio")
    assert all(declared(ratio).lower_is_better for ratio in speed_ratios())
    assert {declared(ratio).of for ratio in speed_ratios()} == {"latency_p50_ms", "instructions"}


def test_without_a_gate_an_annotation_stands_at_the_stage_that_declares_the_number(make_report, tmp_path):
    from pipeline.recipe.recipe import Recipe

    lines = ["name: a", "model: m.keras", "data: {source: npz, path: d.npz, test: test}", "stages:"]
    steps = ("load", "quantize: {schemes: [int8]}", "export: {formats: [c]}", "verify", "benchmark")
    lines += [f"  - {step}" for step in steps]
    (tmp_path / "r.yaml").write_text("\n".join(lines) + "\n")
    recipe = Recipe.load(tmp_path / "r.yaml")
    pair = make_report("ok").pairs[0]
    places = {
        (name, target): threshold(
            recipe, pair, MetricResult(metric=name, target=target, unit="", baseline=1, candidate=1, change=0)
        )[1]
        for name, target in (("size", None), ("accuracy", None), ("latency", "cpu"), ("arena", "tflm"))
    }
    wanted = {"size": "  - export", "accuracy": "  - verify", "latency": "  - benchmark", "arena": "  - benchmark"}
    at = {name: 1 + next(i for i, line in enumerate(lines) if line.startswith(w)) for name, w in wanted.items()}
    assert {name: line for (name, _), line in places.items()} == at
