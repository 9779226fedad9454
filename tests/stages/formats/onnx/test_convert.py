"""Convert with settings: the batch, the sizes, what outputs are declared."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.errors import PreconditionError
from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.session import load_onnx
from stages.formats.tflite.convert import convert_tflite
from stages.keras.tensorflow import import_keras


def test_a_batch_of_one(tiny_xception: Any, tiny_images: Any) -> None:
    loaded = load_onnx(convert_onnx(tiny_xception, "float32", batch=1))
    assert [spec.shape for spec in (*loaded.inputs, *loaded.outputs)] == [(1, 12, 12, 2), (1, 4)]
    expected = np.asarray(tiny_xception(tiny_images, training=False))
    np.testing.assert_allclose(loaded.run({"image": tiny_images})["head"], expected, atol=1e-6)


def test_sizes_that_are_free_can_be_chosen() -> None:
    from stages.formats.tflite.session import load_tflite

    keras = import_keras()
    image = keras.Input((None, None, 2), name="x")
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.Conv2D(4, 3, name="conv")(image))
    model = keras.Model(image, pooled, name="free")
    x = np.random.default_rng(0).standard_normal((3, 9, 8, 2)).astype(np.float32)
    expected = np.asarray(model(x, training=False))
    free = load_onnx(convert_onnx(model, "float32"))
    assert free.inputs[0].shape[1:] == (None, None, 2)
    np.testing.assert_allclose(free.run({"x": x})["pool"], expected, atol=1e-6)
    with pytest.raises(PreconditionError, match="TFLite takes no free sizes"):  # LiteRT allocates before it sees any
        convert_tflite(model, "float32")
    for load, convert in ((load_onnx, convert_onnx), (load_tflite, convert_tflite)):
        chosen = load(convert(model, "float32", shapes={"x": (9, 8, 2)}))
        assert chosen.inputs[0].shape[1:] == (9, 8, 2)
        np.testing.assert_allclose(chosen.run({"x": x})["pool"], expected, atol=1e-6)


def test_outputs_are_declared_with_the_sizes_that_keras_knows_and_nothing_else_is() -> None:
    keras = import_keras()
    inputs = keras.Input((6, 8, 4), name="x")
    model = keras.Model(inputs, keras.layers.Reshape((-1, 2), name="y")(keras.layers.Conv2D(4, 1)(inputs)))
    graph = onnx.load_from_string(convert_onnx(model, "float32")).graph
    assert [d.dim_param or d.dim_value for d in graph.output[0].type.tensor_type.shape.dim] == ["batch", 96, 2]
    assert len(graph.value_info) == 0  # shapes between nodes follow from the graph: they can't contradict it
