"""Test every format in every scheme: near Keras, in the real runtime, with the same bytes wherever it is made."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.errors import ModelError
from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.session import load_onnx
from stages.formats.tflite.convert import convert_tflite, count_operators
from stages.formats.tflite.saved_function import SavedFunction
from stages.formats.tflite.session import load_tflite
from stages.keras import serving as interface
from stages.keras.normal_form import decode_model, encode_model
from stages.keras.tensorflow import import_keras
from stages.samples.calibration import encode_samples

SCHEMES = ("float32", "float16", "dynamic", "weight_only", "int8")
PAIRS = [*((f, scheme) for f in ("tflite", "onnx") for scheme in SCHEMES), ("tflite", "int16x8")]
# The largest difference of a probability that rounding explains, and the smallest that shows quantization.
NEAR = {"float32": (0, 5e-6), "float16": (5e-5, 2e-3), "dynamic": (1e-3, 0.05), "int8": (1e-3, 0.08)}
NEAR |= {"weight_only": (1e-4, 0.04), "int16x8": (1e-4, 0.02)}


def convert(target_format: str, scheme: Any, model: Any, samples: Any, **more: Any) -> bytes:
    if target_format == "tflite":
        return convert_tflite(model, scheme, "float32", samples, **more)
    return convert_onnx(model, scheme, 17, samples, **more)


def load(target_format: str, data: bytes) -> Any:
    return load_tflite(data) if target_format == "tflite" else load_onnx(data)


@pytest.fixture(scope="module")
def files(tiny_xception: Any, tiny_images: Any) -> dict[tuple[str, str], bytes]:
    return {pair: convert(*pair, tiny_xception, tiny_images) for pair in PAIRS}


@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_the_converter_loads_no_saved_model(
    scheme: str, files: Any, tiny_xception: Any, tiny_images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would do so twice, for the names in it: half of its time. The bytes equal its own."""
    from stages.formats.tflite import convert as tflite

    with monkeypatch.context() as own:
        own.setattr(tflite, "_never_loaded", contextlib.nullcontext)
        assert convert("tflite", scheme, tiny_xception, tiny_images) == files["tflite", scheme]
    from tensorflow.python.saved_model import load as loading

    monkeypatch.setattr(loading, "load_partial", lambda *_, **__: pytest.fail("a SavedModel is loaded"))
    assert convert("tflite", scheme, tiny_xception, tiny_images) == files["tflite", scheme]


@pytest.mark.parametrize("pair", PAIRS, ids="/".join)
def test_outputs_are_those_of_keras(pair: Any, files: Any, tiny_xception: Any, tiny_images: Any) -> None:
    expected = np.asarray(tiny_xception(tiny_images, training=False))
    actual = load(pair[0], files[pair]).run({"image": tiny_images})["head"]
    assert actual.shape == expected.shape == (64, 4)
    least, most = NEAR[pair[1]]
    assert least < np.abs(actual - expected).max() < most
    assert cosine(expected, actual) > 0.999
    assert np.mean(actual.argmax(1) == expected.argmax(1)) > 0.9
    assert min(np.bincount(expected.argmax(1))) > 5  # or agreement would mean nothing


def cosine(a: Any, b: Any) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("pair", PAIRS, ids="/".join)
def test_an_output_does_not_depend_on_the_samples_beside_it(pair: Any, files: Any, tiny_images: Any) -> None:
    """Dynamic quantization scales a whole batch by its largest sample: batched, it is not what a device computes."""
    model = load(pair[0], files[pair])
    together = model.run({"image": np.concatenate([tiny_images[:4], tiny_images[:1] * 50])})["head"]
    alone = [model.run({"image": tiny_images[index : index + 1]})["head"] for index in range(4)]
    np.testing.assert_array_equal(together[:4], np.concatenate(alone))


@pytest.mark.parametrize("pair", PAIRS, ids="/".join)
def test_the_interface_is_that_of_keras(pair: Any, files: Any) -> None:
    model = load(pair[0], files[pair])
    batch = 1 if pair[0] == "tflite" else None
    assert [(spec.name, spec.shape, spec.dtype) for spec in model.inputs] == [("image", (batch, 12, 12, 2), "float32")]
    assert [(spec.name, spec.shape, spec.dtype) for spec in model.outputs] == [("head", (batch, 4), "float32")]


def test_no_transpose_is_left_but_the_one_at_the_input(files: Any) -> None:
    graph = onnx.load_from_string(files["onnx", "float32"]).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("Transpose") == 1
    assert kinds[0] == "Transpose"
    assert "BatchNormalization" not in kinds


def test_weights_are_stored_in_the_type_of_the_scheme(files: Any) -> None:
    stored = {scheme: kernel_types(onnx.load_from_string(files["onnx", scheme]).graph) for scheme in SCHEMES}
    tensor = onnx.TensorProto
    assert stored["float32"] == {tensor.FLOAT}
    assert stored["float16"] == {tensor.FLOAT16}
    assert tensor.UINT8 in stored["dynamic"]
    assert stored["weight_only"] == {tensor.INT8}
    assert stored["int8"] == {tensor.INT8}
    assert count_operators(files["tflite", "int8"])["QUANTIZE"] == 1
    for scheme in ("dynamic", "weight_only"):
        assert "QUANTIZE" not in count_operators(files["tflite", scheme])
    for target_format in ("tflite", "onnx"):
        sizes = [len(files[target_format, scheme]) for scheme in ("weight_only", "float16", "float32")]
        assert sizes == sorted(sizes)


def kernel_types(graph: Any) -> set[int]:
    return {tensor.data_type for tensor in graph.initializer if len(tensor.dims) >= 2}


def test_int8_onnx_leaves_one_bit_of_its_weights_unused(files: Any) -> None:
    """Eight-bit products would saturate on x86 without VNNI; see `quantize_activations`."""
    graph = onnx.load_from_string(files["onnx", "int8"]).graph
    kernels = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if len(tensor.dims) >= 2]
    assert len(kernels) == 4
    assert max(int(np.abs(kernel.astype(np.int32)).max()) for kernel in kernels) <= 64


@pytest.mark.slow
def test_bytes_are_equal_in_another_process_and_after_other_exports(
    files: Any, tiny_xception: Any, tiny_images: Any, tmp_path: Path
) -> None:
    (tmp_path / "model").write_bytes(encode_model(tiny_xception))
    (tmp_path / "samples").write_bytes(encode_samples(tiny_images))
    here = {pair: hashlib.sha256(data).hexdigest() for pair, data in files.items()}
    for pair in (("tflite", "int8"), ("onnx", "int8")):  # loaded again, and after all the others
        again = convert(*pair, decode_model(tmp_path / "model"), tiny_images)
        assert hashlib.sha256(again).hexdigest() == here[pair]
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    command = [sys.executable, __file__, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.split() == [here[pair] for pair in reversed(PAIRS)]
    assert done.stderr == ""


def print_digests(folder: Path) -> None:
    """Print digests from a separate process: another model first, then all pairs in reverse order."""
    keras = import_keras()
    other = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3), keras.layers.ReLU()])
    samples = np.load(folder / "samples")
    convert("onnx", "float32", other, None)
    convert("tflite", "int8", other, np.ones((4, 5), np.float32))
    model = decode_model(folder / "model")
    for pair in reversed(PAIRS):
        sys.stdout.write(hashlib.sha256(convert(*pair, model, samples)).hexdigest() + "\n")


def test_nothing_is_printed_but_progress_is_heard(
    tiny_xception: Any, tiny_images: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    for target_format in ("tflite", "onnx"):
        heard: list[tuple[int, int]] = []
        convert(target_format, "int8", tiny_xception, tiny_images, progress=lambda *step, to=heard: to.append(step))
        assert heard[-1] == (64, 64)
        assert heard == sorted(heard)
    assert capfd.readouterr() == ("", "")


def test_a_function_saved_once_gives_the_bytes_of_every_scheme(
    tiny_xception: Any, tiny_images: Any, files: Any
) -> None:
    saved = SavedFunction()
    folder = saved.of(tiny_xception, "sha256:1", None)
    for scheme in SCHEMES:
        assert convert("tflite", scheme, tiny_xception, tiny_images, saved=folder) == files["tflite", scheme]
    assert saved.of(tiny_xception, "sha256:1", None) == folder
    assert saved.of(tiny_xception, "sha256:2", None) != folder
    assert not Path(folder).exists()


def test_metadata_goes_into_the_file_and_changes_nothing_else(tiny_xception: Any, tiny_images: Any, files: Any) -> None:
    metadata = {"scheme": "float32", "model": "sha256:1234"}
    onnx_file = convert("onnx", "float32", tiny_xception, None, metadata=metadata)
    properties = onnx.load_from_string(onnx_file).metadata_props
    assert {entry.key: entry.value for entry in properties} == metadata
    tflite_file = convert("tflite", "float32", tiny_xception, None, metadata=metadata)
    assert embedded(tflite_file) == metadata
    assert count_operators(tflite_file) == count_operators(files["tflite", "float32"])
    for target_format, data in (("onnx", onnx_file), ("tflite", tflite_file)):
        outputs = [
            load(target_format, d).run({"image": tiny_images})["head"] for d in (data, files[target_format, "float32"])
        ]
        np.testing.assert_array_equal(*outputs)


def embedded(data: bytes) -> Any:
    """Return the document in a TFLite file's metadata buffer `secateur.json`."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    (entry,) = [entry for entry in model.metadata if entry.name == b"secateur.json"]
    return json.loads(bytes(model.buffers[entry.buffer].data))


@pytest.fixture(scope="module")
def two_by_two() -> Any:
    """Build two inputs and two outputs whose alphabetical order is not the model's."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    left, right = keras.Input((6,), name="z_left"), keras.Input((6,), name="a_right")
    both = keras.layers.Concatenate(name="both")([left, right])
    outputs = [keras.layers.Dense(3, name="z_out")(both), keras.layers.Dense(2, name="a_out")(left)]
    return keras.Model([left, right], outputs, name="two_by_two")


@pytest.mark.parametrize("target_format", ["tflite", "onnx"])
def test_several_inputs_and_outputs_are_told_apart_by_name(target_format: str, two_by_two: Any) -> None:
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((5, 6)).astype(np.float32) for _ in range(2))
    expected = two_by_two([left, right], training=False)
    actual = load(target_format, convert(target_format, "float32", two_by_two, None)).run(
        {"z_left": left, "a_right": right}
    )
    np.testing.assert_allclose(actual["z_out"], expected[0], atol=1e-6)
    np.testing.assert_allclose(actual["a_out"], expected[1], atol=1e-6)


@pytest.mark.parametrize("target_format", ["tflite", "onnx"])
def test_what_a_format_lacks_is_an_error_that_names_the_operator(target_format: str) -> None:
    keras = import_keras()
    inputs = keras.Input((4, 4), name="matrix")
    import tensorflow as tf

    model = keras.Model(inputs, keras.layers.Lambda(tf.linalg.pinv, name="inverse")(inputs), name="lacking")
    with pytest.raises(
        ModelError, match=r"can't represent the model: it has no operator for Svd of layer 'inverse'$"
    ) as caught:
        convert(target_format, "float32", model, None)
    assert caught.value.where == "lacking"


@pytest.mark.parametrize(("target_format", "way_out"), [("tflite", "export it to ONNX"), ("onnx", "beside=")])
def test_a_model_beyond_what_one_file_holds_is_refused_before_anything_is_converted(
    target_format: str, way_out: str, tiny_xception: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interface, "MOST_BYTES", 4 * tiny_xception.count_params() - 1)
    with pytest.raises(ModelError, match=r"weights of 0\.0 GB, and .* takes less than") as caught:
        convert(target_format, "float32", tiny_xception, None)
    assert caught.value.where == "tiny_xception"
    assert way_out in str(caught.value.hint)
    monkeypatch.setattr(interface, "MOST_BYTES", 4 * tiny_xception.count_params())
    assert convert(target_format, "float32", tiny_xception, None)


@pytest.mark.parametrize("target_format", ["tflite", "onnx"])
def test_fixed_batches_stay_fixed_and_run_any_number_of_samples(target_format: str) -> None:
    keras = import_keras()
    inputs = keras.Input(batch_shape=(4, 6), name="x")
    model = keras.Model(inputs, keras.layers.Dense(3, name="y")(inputs), name="fixed")
    samples = np.random.default_rng(2).standard_normal((10, 6)).astype(np.float32)
    loaded = load(target_format, convert(target_format, "int8", model, samples))
    assert loaded.inputs[0].shape == (4, 6)
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(loaded.run({"x": samples})["y"], samples @ kernel + bias, atol=0.1)


def test_weights_beyond_half_precision_stay_in_full(make_dense: Callable[[float], Any]) -> None:
    samples = np.ones((2, 4), np.float32)
    outputs = load_onnx(convert_onnx(make_dense(1e6), "float16")).run({"x": samples})["y"]
    np.testing.assert_allclose(outputs, 4e6, rtol=1e-6)


@pytest.fixture
def make_dense() -> Callable[[float], Any]:
    def make(weight: float) -> Any:
        keras = import_keras()
        inputs = keras.Input((4,), name="x")
        model = keras.Model(inputs, keras.layers.Dense(3, use_bias=False, name="y")(inputs), name="dense")
        model.set_weights([np.full((4, 3), weight, np.float32)])
        return model

    return make


if __name__ == "__main__":
    print_digests(Path(sys.argv[1]))
