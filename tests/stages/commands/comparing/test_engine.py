"""Run whole comparisons with real processes in a real runtime, and check what is refused before or after them."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from pipeline.contracts.events import Advanced
from pipeline.errors import DeviceError, RecipeError
from stages.commands.comparing.engine import Request, compare, judged
from stages.commands.comparing.operands import Model, Operand
from stages.commands.comparing.tolerances import Tolerances
from stages.devices.target import Sampling, find_target

BRIEF = Sampling(seconds=0.005, min_iterations=3)
TENFOLD = Tolerances(9.0)  # a busy neighbor makes so few inferences of microseconds several times as slow


def request(**changes) -> Request:
    usual = {"targets": [find_target("cpu")], "sampling": BRIEF, "rounds": 2, "tolerances": Tolerances()}
    return Request(**usual | changes)


def test_fifty_times_the_work_is_a_regression_and_a_fiftieth_is_none(make_onnx, operand):
    few, many = operand(make_onnx(4)), operand(make_onnx(200))
    report = compare(few, many, request(metrics=frozenset({"latency", "size"})))
    assert report.verdict == "regression"
    (pair,) = report.pairs
    assert [(found.name, found.verdict) for found in pair.metrics] == [
        ("latency@cpu", "regression"),
        ("size", "regression"),
    ]
    latency, size = pair.metrics
    assert latency.change > 3
    assert latency.interval[0] > 2
    assert latency.candidate > 3 * latency.baseline > 0
    assert len(latency.evidence.ratios) == latency.evidence.rounds == 2
    assert not latency.evidence.extended
    assert size.change == pytest.approx(many.models[0].size_bytes / few.models[0].size_bytes - 1)
    assert compare(many, few, request(metrics=frozenset({"size"}))).verdict == "ok"  # which needs no process
    assert set(report.devices["cpu"]) == {"cpu_model", "cores", "machine", "system"}


def test_what_can_not_be_told_is_measured_once_more_and_then_left_open(onnx_file, operand):
    """No number of rounds shows that a model is not even by 0 % slower than itself.

    Both of two rounds may by chance be slower, once in four times, and look like a regression: not six times in a row.
    """
    asked = request(metrics=frozenset({"latency"}), tolerances=Tolerances(0.0))
    for _ in range(6):
        heard = []
        report = compare(operand(onnx_file), operand(onnx_file), asked, heard.append)
        if report.verdict != "regression":
            break
    (latency,) = report.pairs[0].metrics
    assert report.verdict == latency.verdict == "inconclusive"
    assert latency.evidence.extended
    assert latency.evidence.rounds == 4
    assert "noise floor" in latency.reason
    assert [event.what for event in heard if isinstance(event, Advanced)][-1] == "round 4/4"
    assert max(event.total for event in heard if isinstance(event, Advanced)) == 4


def test_usual_metrics_and_those_that_are_only_shown(onnx_file, operand):
    report = compare(operand(onnx_file), operand(onnx_file), request(tolerances=TENFOLD))
    (pair,) = report.pairs
    held = {found.metric: found.verdict is not None for found in pair.metrics}
    shown = dict.fromkeys(("p90", "first", "load", "memory"), False)
    assert {**held, "p99": False} == {"latency": True, "size": True, "p99": False, **shown}
    assert report.verdict == "ok"
    memory = next(found for found in pair.metrics if found.metric == "memory")
    assert memory.baseline > 1e7
    named = compare(operand(onnx_file), operand(onnx_file), request(metrics=frozenset({"memory"})))
    assert [found.name for found in named.pairs[0].held()] == ["memory@cpu"]


def test_several_models_are_judged_together(make_onnx, operand):
    """Each has its p-value; with four rounds none can be below 0.125, so that no regression is significant among
    several.
    """
    first, second = make_onnx(4), make_onnx(200)
    base, candidate = Operand("a", operand(first).models * 2), Operand("b", operand(second).models * 2)
    labels = ("one", "two")

    def named(side: Operand) -> Operand:
        models = [Model(label, one.kind, one.path, one.digest) for label, one in zip(labels, side.models, strict=True)]
        return Operand(side.name, tuple(models))

    report = compare(named(base), named(candidate), request(metrics=frozenset({"latency"})))
    assert [pair.name for pair in report.pairs] == ["one", "two"]
    for pair in report.pairs:
        (latency,) = pair.metrics
        assert latency.evidence.p_value == pytest.approx(0.125)
        assert latency.change > 3
        assert latency.verdict == "inconclusive"
        assert "may be chance" in latency.reason or "noise floor" in latency.reason


def test_accuracies_are_compared_as_they_are_and_only_of_the_same_data(onnx_file, operand):
    model = operand(onnx_file).models[0]
    better = Operand("a", (replace(model, quality={"accuracy": 0.884}, tested_on="data"),))
    worse = Operand("b", (replace(model, quality={"accuracy": 0.870}, tested_on="data"),))
    asked = request(metrics=frozenset({"accuracy"}))
    report = compare(better, worse, asked)
    (accuracy,) = report.pairs[0].metrics
    assert accuracy.change == pytest.approx(0.014)
    assert report.verdict == "regression"
    assert compare(worse, better, asked).verdict == "ok"
    assert compare(
        better, worse, request(metrics=frozenset({"accuracy"}), tolerances=Tolerances(named={"accuracy": 0.014}))
    )
    other = Operand("c", (replace(model, quality={"accuracy": 0.870}, tested_on="other"),))
    with pytest.raises(RecipeError, match="accuracy is of different test data on both sides"):
        compare(better, other, asked)
    with pytest.raises(RecipeError, match=r"accuracy of .* is not known") as caught:
        compare(operand(onnx_file), better, asked)
    assert caught.value.hint == "--data RECIPE measures it on both sides"


def test_what_a_target_can_not_give_is_refused_before_anything_is_measured(onnx_file, operand):
    heard = []
    with pytest.raises(RecipeError, match="instructions is not measured on cpu"):
        compare(operand(onnx_file), operand(onnx_file), request(metrics=frozenset({"instructions"})), heard.append)
    with pytest.raises(RecipeError, match="tflm takes tflite-model only"):
        compare(operand(onnx_file), operand(onnx_file), request(targets=[find_target("tflm")]), heard.append)
    assert heard == []


def test_what_was_asked_for_by_name_and_could_not_be_had_is_no_success(onnx_file, operand):
    with pytest.raises(DeviceError, match=r"there is no p99 of sin4\.onnx") as caught:
        compare(operand(onnx_file), operand(onnx_file), request(metrics=frozenset({"p99"})))
    assert "1,000 samples" in caught.value.hint


def test_free_sizes_are_asked_for_and_then_taken(make_onnx, operand):
    file = operand(make_onnx(4, ("N", "length")))
    with pytest.raises(DeviceError, match=r"give them with --shape x=\?,\?"):
        compare(file, file, request())
    asked = request(sampling=Sampling(0.005, min_iterations=3, shapes=("x=1,512",)), tolerances=TENFOLD)
    assert compare(file, file, asked).verdict == "ok"


def test_a_runtime_that_crashes_is_told_with_the_side_the_file_and_its_last_words(onnx_file, tmp_path, operand):
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(100))
    side = operand(damaged)
    with pytest.raises(DeviceError) as caught:
        compare(side, side, request())
    assert caught.value.where.startswith("baseline damaged.tflite sha256:")
    assert caught.value.hint


def test_doubts_are_told_with_the_pair(onnx_file, operand):
    doubtful = request(sampling=replace(BRIEF, threads=64), metrics=frozenset({"latency"}))
    (pair,) = compare(operand(onnx_file), operand(onnx_file), doubtful).pairs
    assert f"64 threads share {len(os.sched_getaffinity(0))} processors" in pair.notes
    assert judged([]) == []
