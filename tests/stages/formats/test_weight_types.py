"""Count the types of weights in a file: a scheme that left them unchanged is noticed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pipeline.records.weight_types import narrow_share
from stages.formats.conversion import doubt_about
from stages.formats.onnx.convert import convert_onnx, onnx_facts
from stages.formats.onnx.facts import ONNXFacts
from stages.formats.tflite.convert import convert_tflite, tflite_facts
from stages.formats.tflite.facts import TFLiteFacts
from stages.formats.tflite.session import load_tflite
from stages.formats.weight_types import onnx_weights
from stages.keras.tensorflow import import_keras

KERNELS = 3 * 3 * 4 * 8 + 3 * 3 * 8 * 12 + 12 * 10  # each below the converter's minimum of 1,024


@pytest.fixture(scope="module")
def narrow() -> Any:
    """Build a network as pruning leaves it, whose kernels are all small."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    layers = keras.layers
    start = keras.Input((8, 8, 4), name="image")  # ONNX int8 keeps a first convolution of three in float32
    inner = layers.Conv2D(12, 3, activation="relu")(layers.Conv2D(8, 3, activation="relu")(start))
    return keras.Model(start, layers.Dense(10, name="head")(layers.GlobalAveragePooling2D()(inner)))


def facts_of(target_format: str, scheme: Any, model: Any, samples: Any = None) -> TFLiteFacts | ONNXFacts:
    if target_format == "onnx":
        return onnx_facts(convert_onnx(model, scheme, 17, samples), scheme, (), ())
    return tflite_facts(convert_tflite(model, scheme, "float32", samples), scheme, (), ())


@pytest.mark.parametrize(
    ("target_format", "scheme", "stored"),
    [
        *(("tflite", scheme, {"int8": KERNELS}) for scheme in ("dynamic", "weight_only", "int8", "int16x8")),
        *(("tflite", scheme, {"int4": KERNELS}) for scheme in ("int4_weight_only", "int4_dynamic")),
        ("tflite", "float16", {"float16": KERNELS}),
        ("tflite", "float32", {"float32": KERNELS}),
        *(("onnx", scheme, {"int8": KERNELS}) for scheme in ("weight_only", "int8")),
        ("onnx", "dynamic", {"uint8": KERNELS}),
        ("onnx", "float16", {"float16": KERNELS}),
    ],
)
def test_every_kernel_is_in_the_type_of_the_scheme(
    narrow: Any, target_format: str, scheme: Any, stored: dict[str, int]
) -> None:
    samples = np.random.default_rng(0).normal(size=(8, 8, 8, 4)).astype(np.float32)
    facts = facts_of(target_format, scheme, narrow, samples)
    assert facts.weights == stored
    assert narrow_share(facts) == (None if scheme == "float32" else 1.0)
    assert doubt_about(facts) is None


def test_a_pruned_network_in_dynamic_is_small_and_near_keras(narrow: Any) -> None:
    sizes = {scheme: len(convert_tflite(narrow, scheme)) for scheme in ("float32", "dynamic")}
    assert sizes["dynamic"] < 0.55 * sizes["float32"]
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 4)).astype(np.float32)
    wanted = np.asarray(narrow(x))
    found = load_tflite(convert_tflite(narrow, "dynamic")).run({"image": x})["head"]
    assert 1e-4 < np.abs(found - wanted).max() / np.abs(wanted).max() < 0.05


def test_weights_of_an_onnx_graph_are_those_with_several_axes() -> None:
    tensors = [
        onnx.numpy_helper.from_array(np.zeros((2, 3), np.float32), "kernel"),
        onnx.numpy_helper.from_array(np.zeros(3, np.float32), "bias"),
        onnx.numpy_helper.from_array(np.zeros((4, 2), np.int64), "indices"),
        onnx.numpy_helper.from_array(np.zeros((5, 2), np.uint8), "small"),
    ]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    model = helper.make_model(helper.make_graph([], "g", [value], [value], tensors))
    assert onnx_weights(model) == {"float32": 6, "uint8": 10}
