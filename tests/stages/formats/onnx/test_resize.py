"""Test resized images: Keras' numbers and sizes in ONNX Runtime and in the standard's own evaluator."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from pipeline.errors import ModelError
from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.session import load_onnx
from stages.keras.tensorflow import import_keras


def resized(make: Any, shape: tuple[int | None, ...], x: Any, scheme: Any = "float32") -> tuple[Any, Any, Any, Any]:
    """Return Keras' outputs, ONNX Runtime's, the reference evaluator's (of the first sample), and the graph."""
    keras = import_keras()
    inputs = keras.Input(shape, name="x")
    model = keras.Model(inputs, make(keras, inputs))
    data = convert_onnx(model, scheme, calibration=x if scheme == "int8" else None)
    graph = onnx.load_from_string(data)
    (actual,) = load_onnx(data).run({"x": x}).values()
    (reference,) = ReferenceEvaluator(graph).run(None, {"x": x[:1]}) if scheme == "float32" else (None,)
    return np.asarray(model(x, training=False)), actual, reference, graph.graph


def images(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)


def kinds(graph: Any) -> Counter[str]:
    return Counter(node.op_type for node in graph.node)


@pytest.mark.parametrize("kind", ["nearest", "bilinear", "bicubic", "area"])
@pytest.mark.parametrize(("before", "after"), [((9, 7), (13, 11)), ((12, 10), (2, 15)), ((7, 6), (14, 12))])
def test_all_kinds_have_the_layer_s_sizes_and_numbers(
    kind: str, before: tuple[int, int], after: tuple[int, int]
) -> None:
    x = images(*before, 3)
    wanted, actual, reference, graph = resized(
        lambda keras, image: keras.layers.Resizing(*after, kind, name="y")(image), (*before, 3), x
    )
    assert wanted.shape == (2, *after, 3)
    np.testing.assert_allclose(actual, wanted, atol=1e-5)
    np.testing.assert_allclose(reference, wanted[:1], atol=1e-5)
    sizes = graph.output[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in sizes][1:] == [*after, 3]
    for node in graph.node:
        if node.op_type == "Resize" and after != (14, 12):  # twice as many: exact scales
            assert node.input[3]
            assert not node.input[2]


def test_nearest_neighbors_at_ties_are_those_that_tensorflow_takes() -> None:
    """In a sixth of the size every coordinate lies between two pixels: which one wins is a matter of rounding."""
    x = images(12, 12, 1)
    wanted, actual, _, graph = resized(
        lambda keras, image: keras.layers.Resizing(2, 2, "nearest")(image), (12, 12, 1), x
    )
    np.testing.assert_array_equal(actual, wanted)
    np.testing.assert_array_equal(wanted[:, :, :, 0], x[:, 3::6, 3::6, 0])
    assert kinds(graph)["Gather"] == 2
    assert kinds(graph)["Resize"] == 0


@pytest.mark.parametrize("size", [5, 12, 30])
def test_nearest_neighbors_for_every_pair_of_sizes(size: int) -> None:
    """One network with all of them: from `size` columns to every number from 1 to 40."""
    x = np.arange(size, dtype=np.float32)[None, None, :, None]
    wanted, actual, reference, _ = resized(
        lambda keras, image: keras.layers.Concatenate(axis=2)(
            [keras.layers.Resizing(1, after, "nearest")(image) for after in range(1, 41)]
        ),
        (1, size, 1),
        x,
    )
    np.testing.assert_array_equal(actual, wanted)
    np.testing.assert_array_equal(reference, wanted)


@pytest.mark.parametrize(
    ("method", "antialias", "after"),
    [("bilinear", True, (5, 4)), ("lanczos3", False, (13, 11)), ("area", False, (4, 9))],
)
def test_other_methods_are_products_of_matrices(method: str, antialias: bool, after: tuple[int, int]) -> None:
    import tensorflow as tf

    def layer(keras: Any, image: Any) -> Any:
        return keras.layers.Lambda(lambda t: tf.image.resize(t, after, method, antialias=antialias))(image)

    wanted, actual, reference, graph = resized(layer, (9, 7, 3), images(9, 7, 3))
    np.testing.assert_allclose(actual, wanted, atol=1e-5)
    np.testing.assert_allclose(reference, wanted[:1], atol=1e-5)
    assert kinds(graph)["MatMul"] == 2


@pytest.mark.parametrize("name", ["resize_bilinear", "resize_nearest_neighbor"])
@pytest.mark.parametrize("align_corners", [True, False])
def test_coordinates_of_the_first_tensorflow(name: str, align_corners: bool) -> None:
    import tensorflow as tf

    def layer(keras: Any, image: Any) -> Any:
        resize = getattr(tf.compat.v1.image, name)
        return keras.layers.Lambda(lambda t: resize(t, (13, 15), align_corners=align_corners))(image)

    wanted, actual, reference, _ = resized(layer, (9, 10, 2), images(9, 10, 2))
    np.testing.assert_allclose(actual, wanted, atol=1e-5)
    np.testing.assert_allclose(reference, wanted[:1], atol=1e-5)


@pytest.mark.parametrize("kind", ["nearest", "bilinear"])
def test_sizes_that_are_free(kind: str) -> None:
    def twice(keras: Any, image: Any) -> Any:
        return keras.layers.UpSampling2D((2, 3), interpolation=kind)(keras.layers.Conv2D(2, 1)(image))

    wanted, actual, reference, _ = resized(twice, (None, None, 3), images(9, 7, 3))
    assert wanted.shape == (2, 18, 21, 2)
    np.testing.assert_allclose(actual, wanted, atol=1e-5)
    np.testing.assert_allclose(reference, wanted[:1], atol=1e-5)


def test_areas_of_free_sizes_are_refused_with_the_layer() -> None:
    keras = import_keras()
    inputs = keras.Input((None, None, 3), name="x")
    model = keras.Model(inputs, keras.layers.Resizing(4, 4, "area", name="shrink")(inputs))
    with pytest.raises(ModelError, match="ResizeArea of layer 'shrink'"):
        convert_onnx(model, "float32")


@pytest.mark.parametrize("kind", ["nearest", "bicubic"])
def test_in_8_bits(kind: str) -> None:
    def layer(keras: Any, image: Any) -> Any:
        small = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(image)
        return keras.layers.Conv2D(3, 1)(keras.layers.Resizing(13, 11, kind)(small))

    wanted, actual, _, _ = resized(layer, (9, 7, 3), images(9, 7, 3), "int8")
    assert np.abs(actual - wanted).max() < 0.05 * np.abs(wanted).max()


def test_whole_numbers_become_floats_before_they_are_mixed() -> None:
    keras = import_keras()
    inputs = keras.Input((4, 4, 1), dtype="int32", name="x")
    y = keras.layers.Lambda(lambda t: __import__("tensorflow").image.resize(t, (6, 6)))(inputs)
    model = keras.Model(inputs, y)
    x = np.random.default_rng(0).integers(0, 100, (2, 4, 4, 1)).astype(np.int32)
    (actual,) = load_onnx(convert_onnx(model, "float32")).run({"x": x}).values()
    np.testing.assert_allclose(actual, np.asarray(model(x)), atol=1e-3)
