"""Test layers and the operators that compute them, in files whose names and structure are not the model's."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.errors import PreconditionError
from stages.formats.layers.operators import operators_of
from stages.formats.onnx.convert import convert_onnx
from stages.formats.tflite.convert import convert_tflite
from stages.keras.tensorflow import import_keras


@pytest.fixture(scope="module")
def files(tiny_xception: Any) -> dict[str, bytes]:
    return {
        "tflite-model": convert_tflite(tiny_xception, "float32"),
        "onnx-model": convert_onnx(tiny_xception, "float32"),
    }


def kinds(kind: str, data: bytes) -> list[str]:
    if kind == "onnx-model":
        return [node.op_type for node in onnx.load_from_string(data).graph.node]
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    graph = model.Subgraphs(0)
    codes = [model.OperatorCodes(graph.Operators(i).OpcodeIndex()) for i in range(graph.OperatorsLength())]
    return [names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]


@pytest.mark.parametrize(
    ("layers", "tflite", "onnx_kinds"),
    [
        (["stem"], ["CONV_2D"], ["Transpose", "Conv"]),
        (["stem_bn"], ["CONV_2D"], ["Transpose", "Conv"]),  # fused: it has the convolution's operators
        (["separable"], ["DEPTHWISE_CONV_2D", "CONV_2D"], ["Conv", "Conv"]),
        (["separable", "separable_bn"], ["DEPTHWISE_CONV_2D", "CONV_2D"], ["Conv", "Conv"]),
        (["join"], ["ADD"], ["Add"]),
        (["pool"], ["MEAN"], None),
        (["head"], ["FULLY_CONNECTED", "SOFTMAX"], None),
    ],
)
def test_a_layer_s_operators_are_those_between_its_end_and_the_ends_before(
    layers: list[str], tflite: list[str], onnx_kinds: list[str] | None, files: Any, tiny_xception: Any, tiny_images: Any
) -> None:
    sample = {"image": tiny_images[:1]}
    for kind, wanted in (("tflite-model", tflite), ("onnx-model", onnx_kinds)):
        places = operators_of(layers, tiny_xception, kind, files[kind], sample)  # type: ignore[arg-type]
        found = [kinds(kind, files[kind])[place] for place in sorted(places)]
        if wanted is not None:
            assert found == wanted, kind
        assert found


def test_a_layer_that_computes_nothing_is_told_of() -> None:
    keras = import_keras()
    inputs = keras.Input((2, 3), name="x")
    flat = keras.layers.Flatten(name="flat")(inputs)
    dropped = keras.layers.Dropout(0.5, name="dropped")(keras.layers.Dense(4, name="middle")(flat))
    model = keras.Model(inputs, keras.layers.Dense(2, name="y")(dropped))
    data = convert_tflite(model, "float32")
    sample = {"x": np.random.default_rng(0).standard_normal((1, 2, 3)).astype(np.float32)}
    with pytest.raises(PreconditionError, match="no operator of the file computes dropped: what only"):
        operators_of(["dropped"], model, "tflite-model", data, sample)
    assert len(operators_of(["middle"], model, "tflite-model", data, sample)) == 1
    assert len(operators_of(["middle", "dropped"], model, "tflite-model", data, sample)) == 1
