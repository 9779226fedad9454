"""Test the check after a conversion: a file's declarations, outputs and omissions compared with its Keras model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.errors import PostconditionError
from pipeline.records.artifacts import TensorSpec
from stages.formats.check import runtime_difference
from stages.formats.format import LoadedModel
from stages.keras.tensorflow import import_keras


def check(shape: tuple[int | None, ...], outputs: Any, name: str = "y") -> float:
    """Check a network that returns its input, 2×3 ones, against a file that declares `shape` and gives `outputs`."""
    keras = import_keras()
    inputs = keras.Input((2, 3), name="x")
    model = keras.Model(inputs, keras.layers.Activation("linear", name="y")(inputs))
    spec = TensorSpec(name=name, shape=shape, dtype="float32")
    loaded = LoadedModel(inputs=(), outputs=(spec,), run=lambda _: {name: np.asarray(outputs, np.float32)})
    return runtime_difference(model, loaded, [np.ones((1, 2, 3), np.float32)])


def test_the_difference_is_relative() -> None:
    for shape in ((None, 2, 3), (1, 2, 3), (None, None, 3)):
        assert check(shape, np.full((1, 2, 3), 1.25)) == 0.25


@pytest.mark.parametrize("shape", [(None, 2, 2), (1, 3, 3), (None, 2), (None, 2, 3, 1)])
def test_a_shape_that_is_declared_otherwise_is_refused(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(PostconditionError, match=r"output 'y' is declared as .* in the file, and has the shape"):
        check(shape, np.ones((1, 2, 3)))


def test_other_shapes_names_and_numbers_are_refused() -> None:
    with pytest.raises(PostconditionError, match=r"output 'y' has shape \(1, 2, 2\), the model's has \(1, 2, 3\)"):
        check((None, 2, 3), np.ones((1, 2, 2)))
    with pytest.raises(PostconditionError, match="the exported file has no output 'y'"):
        check((None, 2, 3), np.ones((1, 2, 3)), name="z")
    with pytest.raises(PostconditionError, match="output 'y' of the exported file is not finite"):
        check((None, 2, 3), np.full((1, 2, 3), np.nan))
