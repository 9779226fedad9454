"""Map names of operators to names of layers: from loaded models, and from stored ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UnsupportedError
from stages.formats.layers.owners import owners_of, paths_of, stored_owners
from stages.formats.onnx.convert import convert_onnx
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.cuts import cuts
from stages.keras.normal_form import MODEL_FILE, encode_model
from stages.keras.tensorflow import import_keras, import_tensorflow


@pytest.fixture(scope="module")
def model() -> Any:
    """Build dense layers, one in a nested model and one in a wrapper, and operations between layers."""
    keras, tf = import_keras(), import_tensorflow()
    keras.backend.clear_session()  # the names of operations count
    layers = keras.layers
    x = keras.Input((4, 4), name="x")
    within = keras.Sequential([layers.Input((4, 4)), layers.Dense(4, name="dense")], name="inner")
    wide = layers.TimeDistributed(layers.Dense(4, name="hidden"), name="each")(within(x))
    return keras.Model(x, tf.abs(wide * 2.0) + x, name="net")


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        ("net/inner/dense/Tensordot/MatMul", "layer 'inner/dense'"),
        ("net/each/hidden/BiasAdd", "layer 'each'"),
        ("a_function/net/inner/dense/MatMul@scope", "layer 'inner/dense'"),
        ("net/tf.math.abs/Abs", "operation 'tf.math.abs' after 'each'"),  # through another operation
        ("net/tf.__operators__.add/AddV2", "operation 'tf.__operators__.add' after 'each' and 'x'"),
        (
            "net/each/Reshape_1;net/tf.math.multiply/Mul",
            "layer 'each', operation 'tf.math.multiply' after 'each'",
        ),
        ("net/each/Reshape;net/each/Add;const", "layer 'each'"),
        ("net/each/Reshape;net/inner/dense/Add", "layers 'inner/dense' and 'each'"),
        ("StatefulPartitionedCall:01", "the model's output"),
        ("tfl.quantize", "operator 'tfl.quantize'"),
        ("net/unknown/Add", "operator 'net/unknown/Add'"),
    ],
)
def test_an_operator_is_said_by_the_layer_that_it_computes(model: Any, operator: str, said: str) -> None:
    assert owners_of(model).said_of(operator) == said


def test_a_stored_model_tells_the_same_but_for_what_operations_come_after(model: Any, tmp_path: Path) -> None:
    (tmp_path / MODEL_FILE).write_bytes(encode_model(model))
    stored, here = stored_owners(tmp_path / MODEL_FILE), owners_of(model)
    for name in ("net/inner/dense/MatMul", "net/each/Reshape;net/inner/dense/Add", "net/other/Add"):
        assert stored.said_of(name) == here.said_of(name)
    assert stored.said_of("net/tf.math.abs/Abs") == "operation 'tf.math.abs'"


def test_what_converters_call_operators_is_understood(model: Any) -> None:
    """The names in real files of each layer with weights."""
    owners = owners_of(model)
    names = [cut.name for cut in cuts(convert_tflite(model, "float32"), "net")]
    assert {"layer 'inner/dense'", "the model's output"} <= set(map(owners.said_of, names))
    assert not [name for name in names if owners.said_of(name).startswith("operator ")]


@pytest.mark.parametrize(("convert", "runtime"), [(convert_onnx, "ONNX"), (convert_tflite, "TFLite")])
def test_an_operation_that_a_runtime_lacks_is_told_with_the_layer_before_it(convert: Any, runtime: str) -> None:
    keras, tf = import_keras(), import_tensorflow()
    x = keras.Input((4, 4), name="x")
    keras.backend.clear_session()  # the names of operations count
    values = tf.linalg.svd(keras.layers.Dense(4, name="features")(x) * 2.0)[0]
    with pytest.raises(UnsupportedError) as caught:
        convert(keras.Model(x, values, name="net"), "float32")
    said = "it has no operator for Svd of operation 'tf.linalg.svd' after 'features'"
    assert caught.value.what == f"{runtime} can't represent the model: {said}"


def test_layers_are_called_by_the_way_to_them(model: Any) -> None:
    inner, each = model.get_layer("inner"), model.get_layer("each")
    wanted = [inner.get_layer("dense"), each.layer, each, inner]
    assert paths_of(model, wanted) == ["inner/dense", "each", "inner"]
    assert paths_of(model, []) == []


def test_a_layer_with_layers_of_its_own_is_one_layer() -> None:
    keras = import_keras()

    class Own(keras.layers.Layer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.layers = {"first": keras.layers.Dense(2)}

        def call(self, inputs: Any) -> Any:
            return self.layers["first"](inputs)

    x = keras.Input((4,))
    model = keras.Model(x, Own(name="own")(x), name="net")
    assert owners_of(model).said_of("net/own/dense/MatMul") == "layer 'own'"
    assert paths_of(model, [model.get_layer("own").layers["first"]]) == ["own"]
