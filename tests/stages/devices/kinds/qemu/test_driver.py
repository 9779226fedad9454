"""Count instructions on an emulated core: exact, repeatable, and never a time."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from pipeline.errors import DeviceError
from pipeline.records.schemes import Scheme
from stages.benchmark.stage import BenchmarkStage
from stages.devices.kinds.qemu.emulation import CLASSES
from stages.devices.profile import Origin, profile
from stages.devices.target import Sampling, count, find_target, measure, probe
from stages.formats.onnx.convert import convert_onnx

stage = BenchmarkStage()


def test_counts_repeat_and_outputs_are_this_machines(cortex_a72, model_file: Path) -> None:
    first, second = (count("cortex-a72", model_file, "model") for _ in range(2))
    total = first.metrics["instructions"]
    assert abs(total - second.metrics["instructions"]) <= first.spread * total
    assert sum(first.metrics[f"instructions_{name}"] for name in CLASSES) == total
    assert 10_000 < total < 10_000_000
    assert first.metrics["instructions_simd"] > 0
    assert first.output_digests() == second.output_digests()


def test_free_sizes_are_asked_for_and_taken(cortex_a72, tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", "length")) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Sin", ["x"], ["y"])], "free", values[:1], values[1:])
    file = tmp_path / "free.onnx"
    file.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    with pytest.raises(DeviceError, match="--shape x="):
        count("cortex-a72", file, "model")
    short, long = (count("cortex-a72", file, "model", [f"x=1,{size}"]) for size in (4096, 16384))
    assert short.outputs[0].shape == (1, 4096)
    assert long.metrics["instructions"] > 2 * short.metrics["instructions"]


def test_a_model_of_two_files_is_counted_whole(cortex_a72, make_external, tmp_path: Path) -> None:
    import onnx

    model = make_external()
    inside = tmp_path / "inside.onnx"
    onnx.save(onnx.load(model), inside)
    two, one = (count("cortex-a72", file, "model") for file in (model, inside))
    assert two.output_digests() == one.output_digests()
    assert abs(two.metrics["instructions"] - one.metrics["instructions"]) <= 0.02 * one.metrics["instructions"]


def test_models_of_an_archive_count_as_they_do_alone(cortex_a72, tflite_file: Path, tmp_path: Path) -> None:
    archive = tmp_path / "models.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for name in ("a", "b"):
            made.write(tflite_file, name)
    alone = count("cortex-a72", tflite_file, "model").metrics["instructions"]
    probed = probe("cortex-a72", archive, "models")
    assert probed.runtime.startswith("litert")
    # A process's second model finds the allocator warm: 368 instructions fewer, every time.
    assert probed.costs == pytest.approx((alone, alone), abs=500)


@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_operators_of_an_onnx_file_count_what_the_file_does(
    cortex_a72, scheme: Scheme, tiny_xception, tiny_images, tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(convert_onnx(tiny_xception, scheme, calibration=tiny_images))
    found = profile(cortex_a72.target, file, "model", Origin(tiny_xception, {"image": tiny_images[:1]}))
    assert (found.unit, found.runtime.split()[0]) == ("instructions", "onnxruntime")
    # The cuts run like the whole except for their outputs: the last has the file's.
    assert found.total == pytest.approx(count("cortex-a72", file, "model").metrics["instructions"], rel=0.02)
    assert sum(one.cost for one in found.operators) == found.total
    assert all(one.cost >= 0 for one in found.operators)
    heavy = [one for one in found.operators if "Conv" in one.kind or "Gemm" in one.kind]
    assert [one.layers[0] for one in heavy] == ["stem", "separable", "separable", "head"]


def test_the_stage_gives_instructions_and_no_time(cortex_a72, tflite_file: Path, make_benchmark) -> None:
    context = make_benchmark(tflite_file, tflite_file, targets=("cortex-a72",))
    result = stage.run(context)
    stage.ensures(context, result)
    assert result.metrics.keys() == {metric.name for metric in cortex_a72.target.metrics}
    assert not any("latency" in name or name.endswith("_ms") for name in result.metrics)
    low, high = result.intervals["instruction_ratio"]
    assert low < 1 < high < 1.001
    assert result.outputs[0].kind == "device-counts"
    with pytest.raises(DeviceError, match="measures no time"):
        measure("cortex-a72", tflite_file, Sampling(), "model")


def test_a_damaged_model_is_named(cortex_a72, tflite_file: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(tflite_file.read_bytes()[:500])
    with pytest.raises(DeviceError, match="cortex-a72 can't run this model") as caught:
        count("cortex-a72", damaged, "candidate")
    assert caught.value.where == "candidate"


def test_a_target_that_is_not_set_up_says_how(monkeypatch, tmp_path: Path, tflite_file: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DeviceError, match="not set up") as caught:
        count("cortex-a53", tflite_file, "model")
    assert caught.value.hint == "secateur target setup cortex-a53"
    assert find_target("cortex-a53").counts
