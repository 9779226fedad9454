"""Run the stage end to end on real runtimes, and check what it refuses."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.contracts.events import Advanced, Warned
from pipeline.errors import DeviceError, ModelError, PostconditionError, PreconditionError
from pipeline.records.artifacts import Artifact
from pipeline.store.seals import sealed
from stages.benchmark.config import BenchmarkConfig
from stages.benchmark.stage import BenchmarkStage

METRICS = {
    "latency_p50_ms",
    "latency_p90_ms",
    "baseline_p50_ms",
    "latency_ratio",
    "noise_floor",
    "load_ms",
    "first_inference_ms",
    "peak_memory_bytes",
    "size_bytes",
}
stage = BenchmarkStage()


def test_a_model_against_itself(model_file: Path, make_benchmark) -> None:
    context = make_benchmark(model_file, model_file, rounds=2, seconds=0.02)
    stage.requires(context.config, context.inputs)
    result = stage.run(context)
    stage.ensures(context, result)

    low, high = result.intervals["latency_ratio"]
    assert low <= result.metrics["latency_ratio"] <= high
    assert 0.5 < result.metrics["latency_ratio"] < 2  # loose: other work shares this machine
    assert result.metrics.keys() - {"latency_p99_ms"} == METRICS
    assert all(value > 0 for name, value in result.metrics.items() if name != "noise_floor")
    assert result.metrics["latency_p50_ms"] <= result.metrics["latency_p90_ms"]
    assert result.metrics["size_bytes"] == model_file.stat().st_size
    assert not result.resumed

    (artifact,) = result.outputs
    assert artifact.kind == "latency-samples"
    assert artifact.facts.ratio == result.metrics["latency_ratio"]
    document = json.loads(context.written["latency-samples.json"])
    assert [done["first"] for done in document["rounds"]] == ["baseline", "candidate"]
    counts = [len(done["candidate"]["samples_ns"]) for done in document["rounds"]]
    assert sum(counts) >= artifact.facts.samples_per_side >= 40
    # By the device's clock a process may take just as long as its neighbor of the same side: then no noise was seen.
    first, second = (np.median(done["candidate"]["samples_ns"]) for done in document["rounds"])
    assert (result.metrics["noise_floor"] > 0) == (first != second)
    assert result.metrics["noise_floor"] >= 0
    assert document["device"] == dict(stage.device(context.config, context.folder, context.axis))
    assert document["models"]["export"] == context.inputs["export"].digest
    assert [event.what for event in context.heard if isinstance(event, Advanced)] == ["round 1/2", "round 2/2"]


def test_a_larger_model_is_found_to_be_slower(onnx_file: Path, tmp_path: Path, make_benchmark) -> None:
    """Compare a hundred operators with one."""
    import onnx
    from onnx import helper

    model = onnx.load(onnx_file)
    del model.graph.node[:]
    names = ["x", *(f"x{step}" for step in range(99)), "y"]
    model.graph.node.extend(helper.make_node("Sin", [source], [result]) for source, result in pairwise(names))
    slower = tmp_path / "slower"
    slower.write_bytes(model.SerializeToString())
    context = make_benchmark(slower, onnx_file, rounds=2, seconds=0.01)
    result = stage.run(context)
    assert result.intervals["latency_ratio"][0] > 3
    assert result.metrics["latency_p50_ms"] > 3 * result.metrics["baseline_p50_ms"]


def test_few_rounds_are_warned_of(tflite_file: Path, make_benchmark) -> None:
    context = make_benchmark(tflite_file, tflite_file, rounds=1, seconds=0.005)
    stage.run(context)
    warnings = [event.message for event in context.heard if isinstance(event, Warned)]
    assert any(message.startswith("1 round:") for message in warnings)


def test_a_second_run_in_the_same_scratch_resumes(tflite_file: Path, make_benchmark) -> None:
    context = make_benchmark(tflite_file, tflite_file, rounds=1, seconds=0.005)
    first, second = stage.run(context), stage.run(context)
    assert (first.resumed, second.resumed) == (False, True)
    assert second.outputs == first.outputs


def test_formats_are_not_compared_with_each_other(tflite_file: Path, onnx_file: Path, make_benchmark) -> None:
    context = make_benchmark(tflite_file, onnx_file)
    with pytest.raises(PreconditionError, match="tflite-model can't be compared with a onnx-model"):
        stage.requires(context.config, context.inputs)


def test_an_action_is_for_one_target_and_a_model_is_one_file(tflite_file: Path, make_benchmark) -> None:
    context = make_benchmark(tflite_file, tflite_file)
    with pytest.raises(PreconditionError, match="one target, not on 2"):
        stage.requires(BenchmarkConfig(targets=("cpu", "tflm")), context.inputs)
    whole = context.inputs["export"]
    doubled = Artifact(files=whole.files * 2, facts=whole.facts)
    with pytest.raises(PreconditionError, match="2 files") as caught:
        stage.requires(context.config, context.inputs | {"export": doubled})
    assert caught.value.where == "export"


def test_a_damaged_model_is_a_device_error(tflite_file: Path, tmp_path: Path, make_benchmark) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(tflite_file.read_bytes()[:600])
    with pytest.raises(DeviceError) as caught:
        stage.run(make_benchmark(damaged, tflite_file, rounds=1))
    assert caught.value.where.startswith("candidate model.tflite sha256:")


def save(context, *rounds) -> None:
    for done in rounds:
        document = sealed(done.model_dump_json(indent=1).encode())
        (context.work_dir / f"round-{done.index:04d}.json").write_bytes(document)


@pytest.mark.parametrize("side", ["candidate", "baseline"])
def test_results_that_change_between_processes_fail(side, tflite_file, make_benchmark, make_measurement, make_round):
    context = make_benchmark(tflite_file, tflite_file, rounds=2)
    same, other = make_measurement((5,), "a" * 64), make_measurement((5,), "b" * 64)
    later = {"candidate": same, "baseline": same} | {side: other}
    save(context, make_round(0, same, same), make_round(1, **later))
    with pytest.raises(PostconditionError, match=f"the {side} gave 2 different results"):
        stage.ensures(context, None)
    assert not list(context.work_dir.iterdir())  # and the next run starts from scratch


def test_one_model_with_two_results_fails(tflite_file, make_benchmark, make_measurement, make_round) -> None:
    context = make_benchmark(tflite_file, tflite_file, rounds=1)
    save(context, make_round(0, make_measurement((5,), "a" * 64), make_measurement((5,), "b" * 64)))
    with pytest.raises(PostconditionError, match="one model gave two results"):
        stage.ensures(context, None)


def test_rounds_that_were_not_recorded_fail(tflite_file, make_benchmark, make_measurement, make_round) -> None:
    context = make_benchmark(tflite_file, tflite_file, rounds=2)
    save(context, make_round(0, make_measurement((5,)), make_measurement((5,))))
    with pytest.raises(PostconditionError, match="1 of 2 rounds"):
        stage.ensures(context, None)


def test_busy_machines_are_warned_of(tflite_file, make_benchmark, make_measurement, make_round) -> None:
    context = make_benchmark(tflite_file, tflite_file, rounds=1)
    restless = make_measurement((5,), steady=False)
    save(context, make_round(0, restless, restless))
    stage.run(context)
    assert any("2 of 2 processes" in event.message for event in context.heard if isinstance(event, Warned))


def test_times_are_extended_to_twice_the_rounds_and_counts_are_not() -> None:
    longer = stage.extended(BenchmarkConfig(targets=("cpu",), rounds=12, seconds=0.2), Path())
    assert longer == BenchmarkConfig(targets=("cpu",), rounds=24, seconds=0.2)
    assert stage.extended(BenchmarkConfig(targets=("cortex-a72",)), Path()) is None


def test_the_contract() -> None:
    assert stage.splits(BenchmarkConfig()) == ()
    assert stage.axis is not None
    assert stage.axis.place("cpu", "tflite/int8") == "tflite/int8@cpu"
    keys = {"cpu.cpu_model", "cpu.cores", "cpu.machine", "cpu.system"}
    assert stage.device(BenchmarkConfig(), Path(), "tflite/int8@cpu").keys() == keys
    pinned = stage.device(BenchmarkConfig(), Path(), "openvino/int8@cpu")
    assert pinned.keys() == keys | {"cpu.openvino.inference_precision"}
    assert pinned["cpu.openvino.inference_precision"] == "f32"


def test_a_model_of_two_files_is_measured_whole(make_external, make_benchmark) -> None:
    model = make_external()
    context = make_benchmark(model, model, rounds=2, seconds=0.005)
    stage.requires(context.config, context.inputs)
    result = stage.run(context)
    stage.ensures(context, result)
    assert result.metrics["size_bytes"] == model.stat().st_size + model.with_name("model.onnx.data").stat().st_size
    assert result.metrics["latency_p50_ms"] > 0
    model.with_name("model.onnx.data").write_bytes(b"cut")
    with pytest.raises(ModelError, match="has 3 bytes, and the graph reads 20480"):
        stage.run(make_benchmark(model, model, rounds=3))


@pytest.mark.parametrize(
    ("axis", "target", "able"),
    [("tflite/int8@cpu", "cpu", True), ("onnx/int8@cpu", "cpu", False), ("tflite/int8@tflm", "tflm", False)],
)
def test_operators_can_be_measured_where_they_can_be_taken_out_and_probed(axis: str, target: str, able: bool) -> None:
    explaining = stage.explaining(BenchmarkConfig(targets=(target,)), axis, Path())
    assert (explaining == BenchmarkConfig(targets=(target,), advise=True)) is able
    assert (explaining is None) is not able
