"""Test outputs whose rank TensorFlow leaves open."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.errors import ModelError
from stages.formats.onnx.convert import convert_onnx
from stages.keras.tensorflow import import_keras, import_tensorflow


def squeezed(shape: tuple[int | None, ...]) -> Any:
    keras, tf = import_keras(), import_tensorflow()
    inputs = keras.Input(shape, name="x")
    return keras.Model(inputs, tf.squeeze(inputs * 2.0))


def test_the_rank_is_that_of_a_batch_and_the_values_are_keras() -> None:
    import onnxruntime

    model = squeezed((1, 3, 1, 2))
    data = convert_onnx(model, "float32")
    (output,) = onnx.load_from_string(data).graph.output
    dims = [dim.dim_param or dim.dim_value for dim in output.type.tensor_type.shape.dim]
    assert dims == ["batch", 3, 2]
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((4, 1, 3, 1, 2)).astype(np.float32)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], np.asarray(model(x)), atol=1e-6)


def test_a_rank_that_follows_sizes_is_refused_in_words() -> None:
    with pytest.raises(ModelError, match="ONNX wants the rank of every output") as refused:
        convert_onnx(squeezed((None, 3, 1)), "float32")
    assert "export.shapes" in str(refused.value.hint)
