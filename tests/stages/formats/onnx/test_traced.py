"""Test weights outside the graph: the same graph and outputs as inside, for every way a layer reads them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from pipeline.errors import ModelError
from stages.formats.onnx import traced as onnx_graph
from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.session import load_onnx
from stages.formats.tflite.convert import convert_tflite
from stages.keras.tensorflow import import_keras


def operators(data: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(data).graph.node)


def test_it_ends_in_the_graph_that_frozen_weights_give(
    tiny_xception: Any, tiny_images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = convert_onnx(tiny_xception, "float32")
    monkeypatch.setattr(onnx_graph, "_with_weights_beside", lambda *_: None)
    frozen = convert_onnx(tiny_xception, "float32")
    assert operators(beside) == operators(frozen)
    outputs = [load_onnx(data).run({"image": tiny_images})["head"] for data in (beside, frozen)]
    np.testing.assert_allclose(*outputs, atol=1e-6)


def test_the_graph_is_small_whatever_the_weights(tmp_path: Path) -> None:
    keras = import_keras()
    inputs = keras.Input((512,), name="x")
    model = keras.Model(inputs, keras.layers.Dense(700, name="y")(inputs), name="wide")
    graph = onnx_graph.onnx_graph(model, 17)
    assert graph.model.ByteSize() < 10_000
    assert [tuple(variable.shape) for variable in graph.weights.values()] == [(512, 700)]
    graph.save(tmp_path / "model.onnx")
    assert (tmp_path / "weights.bin").stat().st_size == 512 * 700 * 4
    loaded = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(loaded, full_check=True)
    kernel = next(t for t in loaded.graph.initializer if list(t.dims) == [512, 700])
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(kernel), model.get_weights()[0])


def recurrent(keras: Any) -> Any:
    inputs = keras.Input((7, 5), name="x")
    return keras.Model(inputs, keras.layers.LSTM(16, name="y")(inputs), name="recurrent")


def embedded(keras: Any) -> Any:
    inputs = keras.Input((6,), dtype="int32", name="x")
    rows = keras.layers.Embedding(50, 32, name="table")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, name="y")(rows), name="embedded")


def shared(keras: Any) -> Any:
    """Read one kernel at two places, by a layer and by the model."""
    inputs = keras.Input((20,), name="x")
    layer = keras.layers.Dense(20, activation="relu", name="twice")
    return keras.Model(inputs, keras.layers.Dense(3, name="y")(layer(layer(inputs))), name="shared")


def grouped(keras: Any) -> Any:
    """Build what ConvNeXt has: a convolution in groups, and GELU."""
    inputs = keras.Input((9, 9, 12), name="x")
    y = keras.layers.Conv2D(24, 3, groups=4, padding="same", activation="gelu", name="groups")(inputs)
    return keras.Model(inputs, keras.layers.Conv2D(24, 3, groups=24, strides=2, name="y")(y), name="grouped")


def padded(keras: Any) -> Any:
    """Build ResNetV2's beginning: zeros around values of either sign, then a maximum, and a mean as well."""
    inputs = keras.Input((8, 8, 3), name="x")
    stem = keras.layers.Conv2D(4, 3, name="stem")(keras.layers.Rescaling(1.0, -3.0)(inputs))
    largest = keras.layers.MaxPooling2D(3, 2)(keras.layers.ZeroPadding2D(1)(stem))
    mean = keras.layers.AveragePooling2D(5, 2)(keras.layers.ZeroPadding2D(2)(stem))
    pools = [largest, mean]
    return keras.Model(inputs, keras.layers.Concatenate(name="y")(pools), name="padded")


@pytest.mark.parametrize("build", [recurrent, embedded, shared, grouped, padded])
def test_other_ways_of_reading_weights(build: Any) -> None:
    keras = import_keras()
    keras.utils.set_random_seed(3)
    model = build(keras)
    shape = (4, *model.inputs[0].shape[1:])
    rng = np.random.default_rng(0)
    integers = model.inputs[0].dtype.is_integer
    x = rng.integers(0, 2, shape).astype(np.int32) if integers else rng.standard_normal(shape).astype(np.float32)
    data = convert_onnx(model, "float32")
    (actual,) = load_onnx(data).run({"x": x}).values()
    np.testing.assert_allclose(actual, np.asarray(model(x, training=False)), atol=1e-5)
    assert convert_onnx(model, "float32") == data
    assert not any("_jit_compiled_convolution_op" in vars(layer) for layer in model.layers)  # as Keras made them


def test_zeros_that_never_win_go_into_the_maximum() -> None:
    keras = import_keras()
    inputs = keras.Input((8, 8, 3), name="x")
    y = keras.layers.ZeroPadding2D(1)(keras.layers.Conv2D(4, 3, activation="relu", name="stem")(inputs))
    data = convert_onnx(keras.Model(inputs, keras.layers.MaxPooling2D(3, 2, name="y")(y)), "float32")
    assert operators(data)["Pad"] == 0


def test_one_variable_is_one_weight() -> None:
    keras = import_keras()
    graph = onnx_graph.onnx_graph(shared(keras), 17)
    assert [tuple(variable.shape) for variable in graph.weights.values()] == [(20, 20)]


@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_channels_first_inputs_need_no_transpose(scheme: Any, tiny_xception: Any, tiny_images: Any) -> None:
    data = convert_onnx(tiny_xception, scheme, calibration=tiny_images, layout="nchw")
    assert operators(data)["Transpose"] == 0
    loaded = load_onnx(data)
    assert [(spec.name, spec.shape) for spec in loaded.inputs] == [("image", (None, 2, 12, 12))]
    usual = load_onnx(convert_onnx(tiny_xception, scheme, calibration=tiny_images))
    outputs = [model.run({"image": tiny_images})["head"] for model in (loaded, usual)]
    np.testing.assert_allclose(*outputs, atol=1e-6 if scheme == "float32" else 0.02)


@pytest.mark.parametrize(("opset", "ir"), [(18, 8), (19, 9), (26, 13)])
def test_operator_sets_beyond_tf2onnx_hold_the_same_in_every_scheme(
    opset: int, ir: int, tiny_xception: Any, tiny_images: Any
) -> None:
    expected = np.asarray(tiny_xception(tiny_images, training=False))
    for scheme, near in (("float32", 1e-6), ("int8", 0.08)):
        data = convert_onnx(tiny_xception, scheme, opset, tiny_images)
        model = onnx.load_from_string(data)
        assert ([entry.version for entry in model.opset_import], model.ir_version) == ([opset], ir)
        np.testing.assert_allclose(load_onnx(data).run({"image": tiny_images})["head"], expected, atol=near)
        if opset > onnx_graph.NEWEST_OPSET:  # before, onnx's own evaluator has no integers of 8 bits
            (reference,) = ReferenceEvaluator(model).run(None, {"image": tiny_images[:1]})
            np.testing.assert_allclose(reference, expected[:1], atol=near)
            usual = operators(convert_onnx(tiny_xception, scheme, 17, tiny_images))
            assert operators(data) == usual


def test_an_operator_set_that_can_t_be_reached_is_refused() -> None:
    keras = import_keras()
    inputs = keras.Input((4, 4, 2), name="x")
    model = keras.Model(inputs, keras.layers.UpSampling2D()(inputs))
    graph = onnx_graph.onnx_graph(model, 17).model
    with pytest.raises(ModelError, match="operator set 7 can't hold the model, says onnx's converter") as caught:
        onnx_graph._in_opset(graph, 7, "twice")
    assert (caught.value.where, caught.value.hint) == ("twice", "export.opset: 17")


def test_an_operator_that_is_lacking_is_named_with_the_layer_even_in_a_nested_model() -> None:
    import tensorflow as tf

    keras = import_keras()
    inner_input = keras.Input((4, 4))
    inner = keras.Model(inner_input, keras.layers.Lambda(tf.linalg.pinv, name="inverse")(inner_input), name="inner")
    inputs = keras.Input((4, 4), name="x")
    model = keras.Model(inputs, inner(inputs), name="outer")
    for convert, runtime in ((convert_onnx, "ONNX"), (convert_tflite, "TFLite")):
        with pytest.raises(ModelError, match=f"{runtime} can't represent.*Svd of layer 'inner/inverse'") as caught:
            convert(model, "float32")
        assert caught.value.where == "outer"
