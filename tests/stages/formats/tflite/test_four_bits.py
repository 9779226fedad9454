"""Test 4-bit weights in LiteRT: it computes what the weights in the file say, read here on their own."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from pipeline.records.schemes import Quantization
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.four_bits import doubts_about_4_bits, scope_of
from stages.formats.tflite.session import load_tflite
from stages.formats.tflite.tensors import tflite_tensors
from stages.formats.weight_types import tflite_weights
from stages.keras.tensorflow import import_keras


@pytest.fixture(scope="module")
def network() -> Any:
    """Build one layer of each kind, with odd sizes, a filter of zeros and a block of zeros."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    layers = keras.layers
    image = keras.Input((9, 9, 3), name="image")
    x = layers.Conv2D(7, 3, activation="relu", name="conv")(image)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Conv2DTranspose(5, 3, strides=2, name="up")(x)
    x = layers.Dense(96, activation="relu", name="wide")(layers.Flatten()(x))
    x = layers.Dense(33, activation="relu", name="blocks")(x)
    model = keras.Model(image, layers.Dense(10, name="head")(x))
    for name, zeros in (("conv", np.s_[..., 2]), ("blocks", np.s_[:32, 4])):
        kernel, bias = model.get_layer(name).get_weights()
        kernel[zeros] = 0
        model.get_layer(name).set_weights([kernel, bias])
    return model


@pytest.fixture(scope="module")
def images() -> Any:
    return np.random.default_rng(0).standard_normal((4, 9, 9, 3)).astype(np.float32)


def stored(data: bytes) -> dict[tuple[int, ...], tuple[str, Any]]:
    """Return each quantized kernel of a file by its shape: its type, and its values as real numbers."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    (graph,), found = model.subgraphs, {}
    for tensor in graph.tensors:
        raw, how = model.buffers[tensor.buffer].data, tensor.quantization
        if raw is None or len(tensor.shape) < 2 or tensor.type not in (schema.TensorType.INT4, schema.TensorType.INT8):
            continue
        count = int(np.prod(tensor.shape))
        if tensor.type == schema.TensorType.INT4:
            halves = [half for byte in raw.tolist() for half in (byte % 16, byte // 16)][:count]
            codes = np.array([half - 16 if half > 7 else half for half in halves], np.float32)
        else:
            codes = raw.view(np.int8).astype(np.float32)
        codes = codes.reshape(tensor.shape)
        if how.detailsType == schema.QuantizationDetails.BlockwiseQuantization:
            scales = model.buffers[graph.tensors[how.details.scales].buffer].data.view(np.float16)
            scales = np.repeat(scales, 32).reshape(tensor.shape).astype(np.float32)
        else:
            axes = [1] * codes.ndim
            axes[how.quantizedDimension] = -1
            scales = np.reshape(how.scale, axes)
        bits = "INT4" if tensor.type == schema.TensorType.INT4 else "INT8"
        found[tuple(map(int, tensor.shape))] = (bits, codes * scales)
    return found


def real(network: Any, data: bytes) -> Any:
    """Return the network in Keras with the weights of a file, found by their shape in TFLite."""
    keras, kernels = import_keras(), stored(data)
    model = keras.models.clone_model(network)
    model.set_weights(network.get_weights())
    # From Keras' order of axes to TFLite's, and back.
    orders = {"Conv2D": ((3, 0, 1, 2), (1, 2, 3, 0)), "Dense": ((1, 0), (1, 0))}
    orders |= {"Conv2DTranspose": ((2, 0, 1, 3), (1, 2, 0, 3)), "DepthwiseConv2D": ((3, 0, 1, 2), (1, 2, 3, 0))}
    for layer in model.layers:
        if type(layer).__name__ in orders:
            there, back = orders[type(layer).__name__]
            kernel, bias = layer.get_weights()
            shape = kernel.transpose(there).shape
            if shape in kernels:
                layer.set_weights([kernels[shape][1].transpose(back), bias])
    return model


def decibels(expected: Any, found: Any) -> float:
    return float(10 * np.log10(np.square(expected).sum() / max(np.square(found - expected).sum(), 1e-30)))


SHAPES = {"conv": (7, 3, 3, 3), "depthwise": (1, 3, 3, 7), "up": (5, 3, 3, 7), "wide": (96, 605), "blocks": (33, 96)}


@pytest.mark.parametrize(
    ("scheme", "granularity", "in_8_bits"),
    [
        ("int4_weight_only", None, {"depthwise"}),
        ("int4_weight_only", "per_tensor", {"depthwise"}),
        ("int4_dynamic", "per_channel", {"depthwise", "up"}),
        ("int4_dynamic", "per_tensor", {"depthwise", "up"}),
        ("int4_dynamic", "per_block", {"depthwise", "up"}),
    ],
)
def test_litert_computes_what_the_stored_weights_say(
    network: Any, images: Any, scheme: Any, granularity: Any, in_8_bits: set[str]
) -> None:
    data = convert_tflite(network, Quantization(scheme=scheme, granularity=granularity))
    kernels = stored(data)
    assert {name for name, shape in SHAPES.items() if kernels[shape][0] == "INT8"} == in_8_bits
    assert len(kernels) == len(SHAPES) + 1  # the head
    expected = np.asarray(real(network, data)(images))
    found = load_tflite(data).run({"image": images})["head"]
    assert decibels(expected, found) > (100 if scheme == "int4_weight_only" else 30)
    assert 5 < decibels(np.asarray(network(images)), found) < 40  # it is not the float32 network


@pytest.mark.parametrize("granularity", ["per_channel", "per_block"])
def test_layers_are_shown_as_they_are_computed(network: Any, images: Any, granularity: Any) -> None:
    """Without XNNPACK LiteRT computes blocks wrong, and codes of -8 in dense kernels."""
    data = convert_tflite(network, Quantization(scheme="int4_dynamic", granularity=granularity), metadata={"a": "b"})
    *_, shown = tflite_tensors(data, {"image": images[:1]})
    assert decibels(load_tflite(data).run({"image": images[:1]})["head"], shown.values) > 30


def test_named_layers_stay_in_float_and_a_name_is_found_whole(network: Any) -> None:
    how = Quantization(scheme="int4_dynamic", granularity="per_block", keep_float=("wide",))
    kernels = stored(convert_tflite(network, how))
    assert set(SHAPES.values()) - set(kernels) == {SHAPES["wide"]}
    assert re.search(scope_of("net/a.b"), "net/c;net/a.b;")
    assert not re.search(scope_of("net/a.b"), "net/a.b1;my_net/a.b;net/aab;")


def test_what_is_not_in_4_bits_and_what_needs_xnnpack_is_told(network: Any) -> None:
    def told(scheme: Any, granularity: Any = None) -> tuple[str, ...]:
        how = Quantization(scheme=scheme, granularity=granularity)
        return doubts_about_4_bits(convert_tflite(network, how), how)

    assert told("weight_only") == ()
    assert told("int4_weight_only") == ("8 bits stay in DEPTHWISE_CONV_2D (1): 4 bits cost these kernels most",)
    kinds, blocks = told("int4_dynamic", "per_block")
    assert kinds == "8 bits stay in DEPTHWISE_CONV_2D (1), TRANSPOSE_CONV (1): LiteRT has no 4-bit kernels for them"
    assert "need XNNPACK" in blocks


def test_4_bits_take_half_of_8_where_weights_dominate() -> None:
    keras = import_keras()
    start = keras.Input((1024,))
    model = keras.Model(start, keras.layers.Dense(1024)(start))
    settings = (
        ("weight_only", None),
        ("int4_weight_only", None),
        ("int4_dynamic", None),
        ("int4_dynamic", "per_block"),
    )
    sizes = [len(convert_tflite(model, Quantization(scheme=s, granularity=g))) for s, g in settings]
    assert [size / sizes[0] < 0.55 for size in sizes[1:]] == [True, True, False]
    assert sizes[3] / sizes[0] < 0.57  # a float16 more for each 32 weights


@pytest.mark.parametrize("scheme", ["weight_only", "int4_dynamic"])
def test_weights_of_a_large_file_are_inside_of_it(scheme: Any) -> None:
    """Above 256 kB ai-edge-quantizer puts them behind the flatbuffer."""
    keras = import_keras()
    start = keras.Input((768,))
    data = convert_tflite(keras.Model(start, keras.layers.Dense(768)(start)), scheme)
    assert tflite_weights(data) == {"int4" if scheme == "int4_dynamic" else "int8": 768 * 768}
    assert len(data) > 256 * 1024
