"""Compare int8 files without lone RELUs with the same files as the converter makes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from stages.formats.session import dequantized
from stages.formats.tflite import convert
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.cuts import cuts
from stages.formats.tflite.lone_relus import without_lone_relus
from stages.formats.tflite.session import load_tflite
from stages.formats.tflite.tensors import count_operators, operator_kinds, tflite_tensors
from stages.keras.tensorflow import import_keras

SAMPLES = 24


def lone_relus(limit: float | None) -> Any:
    """Return a network with a convolution, and a sum, that a ReLU and a shortcut read; a RELU6 if `limit` is 6."""
    keras = import_keras()
    keras.utils.set_random_seed(2)
    layers = keras.layers
    image = keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="first")(image)
    inner = layers.Conv2D(8, 3, padding="same", name="inner")(layers.ReLU(limit, name="behind_convolution")(x))
    x = layers.Add(name="sum")([x, inner])
    last = layers.Conv2D(8, 3, padding="same", name="last")(layers.ReLU(limit, name="behind_sum")(x))
    return keras.Model(image, layers.Add(name="head")([x, last]))


@pytest.fixture(scope="module", params=[None, 6.0], ids=["relu", "relu6"])
def files(request: pytest.FixtureRequest) -> tuple[Any, bytes, bytes, Any]:
    """Return the Keras model, its file as the converter makes it, the file as exported, and the samples."""
    model = lone_relus(request.param)
    samples = (np.random.default_rng(4).normal(size=(SAMPLES, 12, 12, 3)) * 4).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "without_lone_relus", lambda data: data)
        before = convert_tflite(model, "int8", calibration=samples)
    return model, before, convert_tflite(model, "int8", calibration=samples), samples


def test_a_sum_is_made_twice_and_nothing_else_changes(files: tuple[Any, bytes, bytes, Any]) -> None:
    _, before, after, _ = files
    (old,), (new,) = operator_kinds(before), operator_kinds(after)
    replaced = [b for a, b in zip(old, new, strict=True) if a.startswith("RELU")]
    assert replaced == ["QUANTIZE", "ADD"]
    assert [b for a, b in zip(old, new, strict=True) if not a.startswith("RELU")] == [
        kind for kind in old if not kind.startswith("RELU")
    ]
    assert without_lone_relus(after) is after


def test_litert_s_own_quantize_computes_the_relu_s_bits(files: tuple[Any, bytes, bytes, Any]) -> None:
    _, before, after, samples = files
    found, wanted = (
        next(t.values for t in tflite_tensors(data, {"image": samples[:1]}) if "behind_convolution" in t.name)
        for data in (after, before)
    )
    assert np.array_equal(found, wanted)


def test_xnnpack_is_within_a_step_of_exact_arithmetic(files: tuple[Any, bytes, bytes, Any]) -> None:
    _, _, after, samples = files
    (quantize, _), (add, half) = relus_apart(after, samples[:1])
    assert quantize <= 1
    # The first sum that it is compared with is rounded, by up to half of a step of its own.
    assert add <= 1 + half


def relus_apart(data: bytes, sample: Any) -> Iterator[tuple[float, float]]:
    """Yield how far each replaced RELU is in XNNPACK from that of its input, in steps, and half a step of the input."""
    for cut in cuts(data, "test"):
        if "behind" not in cut.name or cut.kind == "CONV_2D":
            continue
        interpreter = Interpreter(model_content=cut.data)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample)
        interpreter.invoke()
        outputs = {detail["name"]: detail for detail in interpreter.get_output_details()}
        relu = outputs.pop(cut.name)
        source = next(detail for name, detail in outputs.items() if ("sum" if cut.kind == "ADD" else "first") in name)
        scale, zero_point = relu["quantization"]
        exact = np.maximum(dequantized(interpreter.get_tensor(source["index"]), source), 0) / scale + zero_point
        found, wanted = interpreter.get_tensor(relu["index"]).astype(float), np.clip(np.rint(exact), -128, 127)
        yield float(np.abs(found - wanted).max()), source["quantization"][0] / scale / 2


def test_outputs_are_no_farther_from_keras(files: tuple[Any, bytes, bytes, Any]) -> None:
    model, before, after, samples = files
    wanted = np.asarray(model(samples))
    old, new = (
        float(np.square(load_tflite(data).run({"image": samples})["head"] - wanted).mean()) for data in (before, after)
    )
    assert new < 1.01 * old
    assert new < 2e-3 * float(np.square(wanted).mean())


def test_a_relu_that_cuts_off_what_its_output_can_hold_stays(files: tuple[Any, bytes, bytes, Any]) -> None:
    """Where a RELU has the scale of its input, only the operator itself limits its output."""
    from tensorflow.lite.tools import flatbuffer_utils

    _, before, _, _ = files
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(before))
    graph = model.subgraphs[0]
    for kind, operator in zip(operator_kinds(before)[0], graph.operators, strict=True):
        if kind.startswith("RELU"):
            graph.tensors[operator.outputs[0]].quantization = graph.tensors[operator.inputs[0]].quantization
    wide = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    assert without_lone_relus(wide) is wide
    assert sum(count for kind, count in count_operators(wide).items() if kind.startswith("RELU")) == 2


def test_float_files_keep_their_bytes() -> None:
    data = convert_tflite(lone_relus(None), "float32")
    assert count_operators(data)["RELU"] == 2
    assert without_lone_relus(data) is data
