"""What OpenVINO models compute, in which precision, and what is said of files that are none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import DeviceError, ModelError, RecipeError
from pipeline.records.manifest import RunManifest
from stages.formats.onnx.convert import convert_onnx
from stages.formats.openvino import OpenVINO
from stages.formats.openvino.convert import write_openvino
from stages.formats.openvino.session import compiled_for_samples, difference_left_free, import_openvino
from stages.formats.registry import files_beside, load_exported, recognise
from stages.keras.tensorflow import import_keras

ALLOWED = {"float32": 1e-5, "float16": 1e-3, "weight_only": 3e-2}


def outputs_of(path: Path, images: Any) -> Any:
    kind = "openvino-model" if path.suffix == ".xml" else "onnx-model"
    return load_exported(kind, path).run({"image": images})["head"]


@pytest.mark.parametrize("scheme", ALLOWED)
def test_outputs_are_keras(
    path_of: Callable[[str], Path], tiny_xception: Any, tiny_images: Any, manifest: RunManifest, scheme: str
) -> None:
    expected = np.asarray(tiny_xception(tiny_images, training=False))
    found = outputs_of(path_of(f"openvino/{scheme}"), tiny_images)
    assert np.abs(found - expected).max() / np.abs(expected).max() < ALLOWED[scheme]
    assert 0 < manifest.metrics[f"openvino/{scheme}.export_difference"] < ALLOWED[scheme]


def test_int8_is_computed_in_integers_as_near_to_keras_as_onnx_runtime(
    path_of: Callable[[str], Path], manifest: RunManifest, tiny_xception: Any, tiny_images: Any
) -> None:
    metrics = manifest.metrics
    assert metrics["openvino/int8.sqnr_db"] > metrics["onnx/int8.sqnr_db"] - 3 > 20
    assert metrics["openvino/int8.accuracy"] >= 15 / 16
    expected = np.asarray(tiny_xception(tiny_images, training=False)).astype(np.float64)
    ours, theirs = (outputs_of(path_of(f"{name}/int8"), tiny_images) for name in ("openvino", "onnx"))
    noise = [np.square(outputs - expected).sum() / np.square(expected).sum() for outputs in (ours, theirs)]
    assert -10 * np.log10(noise[0]) > 15
    assert noise[0] < 1.5 * noise[1]
    assert (ours.argmax(1) == expected.argmax(1)).mean() > 0.9
    assert 1e-4 < np.abs(ours - theirs).max() < 0.1  # rounded elsewhere, and by no more than a few steps


def test_float_operators_compute_in_float32_on_every_processor(path_of: Callable[[str], Path]) -> None:
    openvino = import_openvino()
    for scheme in ("float32", "int8"):
        model = openvino.Core().read_model(str(path_of(f"openvino/{scheme}")))
        compiled = compiled_for_samples(model, 1)
        assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
        assert compiled.get_property("NUM_STREAMS") == 1
        assert compiled.get_property("ENABLE_CPU_PINNING") is False
        assert str(compiled.get_property("PERFORMANCE_HINT")).endswith("LATENCY")


def test_files_are_known_by_their_content(path_of: Callable[[str], Path], tmp_path: Path) -> None:
    path = path_of("openvino/float32")
    assert recognise(path).kind == "openvino-model"
    assert files_beside(path) == (path.with_suffix(".bin"),)
    assert recognise(path_of("onnx/float32")).kind == "onnx-model"
    for text in ("<html></html>", "<network/>", '<?xml version="1.0"?><svg/>'):
        (tmp_path / "other.xml").write_text(text)
        with pytest.raises(RecipeError, match="neither onnx nor openvino nor tflite"):
            recognise(tmp_path / "other.xml")
    for text in ('<?xml version="1.0"?>\n<!-- by hand -->\n<net name="x">', '<net\nversion="11"/>'):
        assert OpenVINO().recognises(text.encode())


def test_a_model_without_its_data_is_told_so(path_of: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_bytes(path_of("openvino/float32").read_bytes())
    with pytest.raises(ModelError, match=r"the model's data, model.bin, is missing"):
        files_beside(path)
    with pytest.raises(DeviceError, match="OpenVINO can't load the file"):
        load_exported("openvino-model", path)
    whole = path_of("openvino/float32").with_suffix(".bin").read_bytes()
    path.with_suffix(".bin").write_bytes(whole[:-40])
    with pytest.raises(ModelError, match=f"has {len(whole) - 40} bytes, and the graph reads {len(whole)}"):
        files_beside(path)
    with pytest.raises(DeviceError, match="two files"):
        load_exported("openvino-model", path.read_bytes())


def test_a_damaged_graph_is_an_error_of_ours(path_of: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    whole = path_of("openvino/float32").read_bytes()
    path.with_suffix(".bin").write_bytes(path_of("openvino/float32").with_suffix(".bin").read_bytes())
    for damaged in (whole[: len(whole) // 2], whole.replace(b"<layers>", b"<layer>"), b"<net name='x'></net>"):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"is damaged|damaged: "):
            files_beside(path)
        with pytest.raises(ModelError, match="damaged"):
            OpenVINO().origin(path)
        with pytest.raises((ModelError, DeviceError)):
            load_exported("openvino-model", path)
    path.write_bytes(whole.replace(b'type="Convolution"', b'type="NoSuchLayer"'))
    with pytest.raises(DeviceError, match=r"OpenVINO can't load the file: .*NoSuchLayer") as caught:
        load_exported("openvino-model", path)
    assert "\n" not in caught.value.what


def test_a_damaged_graph_is_one_line_on_the_command_line(path_of: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_bytes(path_of("openvino/float32").read_bytes()[:3000])
    path.with_suffix(".bin").write_bytes(b"\0")
    command = [sys.executable, "-m", "pipeline", "profile", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[4])
    assert done.returncode not in (0, 1)
    assert "Traceback" not in done.stderr
    assert "damaged" in done.stderr


def test_what_openvino_computes_otherwise_with_free_sizes_is_noticed(
    path_of: Callable[[str], Path], tiny_images: Any, tmp_path: Path
) -> None:
    path, sample = path_of("openvino/int8"), {"image": tiny_images[:1]}
    usual = load_exported("openvino-model", path).run(sample)
    assert difference_left_free(path, sample, usual) < 1e-5
    assert difference_left_free(path, sample, {"head": 2 * usual["head"]}) == pytest.approx(0.5, abs=1e-4)
    openvino = import_openvino()
    model = openvino.Core().read_model(str(path))
    model.reshape([1, 12, 12, 2])
    openvino.save_model(model, str(tmp_path / "fixed.xml"), compress_to_fp16=False)
    assert difference_left_free(tmp_path / "fixed.xml", sample, {"head": 2 * usual["head"]}) == 0.0


def test_free_sizes_are_run_at_those_that_come(tmp_path: Path) -> None:
    keras = import_keras()
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, None, 2), name="image")
    y = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(keras.layers.GlobalAveragePooling2D()(y)))
    (tmp_path / "model.onnx").write_bytes(convert_onnx(model, "float32"))
    write_openvino(tmp_path / "model.onnx", tmp_path / "model.xml", "float32", {})
    loaded = load_exported("openvino-model", tmp_path / "model.xml")
    assert loaded.inputs[0].shape == (None, None, None, 2)
    for shape in ((2, 8, 9, 2), (3, 12, 7, 2)):
        images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        np.testing.assert_allclose(loaded.run({"image": images})["head"], np.asarray(model(images)), atol=1e-5)
