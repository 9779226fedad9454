"""Run files in onnx's own evaluator: agreement is silent, and so is what it can't tell; anything else is a warning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.reference import reading_of_the_standard
from stages.formats.onnx.session import load_onnx
from stages.keras.tensorflow import import_keras


def files(build: Callable[[Any, Any], Any], shape: tuple[int, ...], **settings: Any) -> tuple[bytes, Any, Any]:
    """Return the float32 file of a network, one sample, and ONNX Runtime's outputs."""
    keras = import_keras()
    inputs = keras.Input(shape, name="x")
    data = convert_onnx(keras.Model(inputs, build(keras, inputs)), "float32", **settings)
    samples = {"x": np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)}
    return data, samples, load_onnx(data).run(samples)


def convolution(keras: Any, image: Any) -> Any:
    return keras.layers.Resizing(13, 11, name="y")(keras.layers.Conv2D(4, 3, padding="same", activation="relu")(image))


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_a_file_that_says_what_it_means(layout: Any) -> None:
    data, samples, outputs = files(convolution, (9, 7, 3), layout=layout)
    assert reading_of_the_standard(data, samples, outputs) is None
    wrong = {"y": outputs["y"] * 1.01}
    warning = reading_of_the_standard(data, samples, wrong)
    assert warning is not None
    assert warning.startswith("onnx's own evaluator differs from ONNX Runtime by 9.9e-03 (relative) in output 'y'")
    warning = reading_of_the_standard(data, samples, {"y": outputs["y"][:, :12]})
    assert warning is not None
    assert "gives output 'y' the shape (1, 13, 11, 4), ONNX Runtime (1, 12, 11, 4)" in warning


def test_a_rounded_scale_is_found() -> None:
    """What tf2onnx writes: ONNX Runtime makes 13 rows of it, and whoever rounds down 12."""
    data, samples, outputs = files(convolution, (9, 7, 3))
    model = onnx.load_from_string(data)
    (resize,) = (node for node in model.graph.node if node.op_type == "Resize")
    scales = np.array([1, 1, 13 / 9, 11 / 7], np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(scales, "scales"))
    del resize.input[2:]
    resize.input.append("scales")
    assert load_onnx(model.SerializeToString()).run(samples)["y"].shape == outputs["y"].shape
    warning = reading_of_the_standard(model.SerializeToString(), samples, outputs)
    assert warning is not None
    assert "shape (1, 12, 10, 4)" in warning


def test_what_the_evaluator_can_t_tell_is_silent() -> None:
    data, samples, outputs = files(lambda keras, x: keras.layers.SimpleRNN(3)(x), (5, 2))
    wrong = {name: values + 1 for name, values in outputs.items()}
    assert reading_of_the_standard(data, samples, wrong) is None
    model = onnx.load_from_string(files(convolution, (9, 7, 3))[0])
    model.graph.node[0].op_type = "NoSuchOperator"
    assert reading_of_the_standard(model.SerializeToString(), samples, wrong) is None
