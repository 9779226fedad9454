"""Data that does not fit a model, and models that classify nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts import KerasFacts, TensorSpec
from pipeline.errors import DataError, PreconditionError
from stages.data_checks import require_classifier, require_fit


def facts(input_shape: tuple[int | None, ...], *outputs: tuple[int | None, ...]) -> KerasFacts:
    return KerasFacts(
        params=1,
        macs=1,
        inputs=(TensorSpec(name="x", shape=input_shape, dtype="float32"),),
        outputs=tuple(TensorSpec(name=f"y{i}", shape=shape, dtype="float32") for i, shape in enumerate(outputs)),
        sparsity=0.0,
    )


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (facts((None, 4), (None, 3), (None, 3)), "this one has 1 and 2"),
        (facts((None, 4), (None, 8, 8, 3)), r"has shape \(None, 8, 8, 3\)"),
    ],
)
def test_what_is_no_classifier(model: KerasFacts, says: str) -> None:
    with pytest.raises(PreconditionError, match=says):
        require_classifier(model)
    require_classifier(facts((None, 4), (None, 3)))


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (np.zeros((0, 4)), np.zeros(0, int), "no samples"),
        (np.zeros((3, 5)), np.zeros(3, int), "samples are 5, the model's input 'x' takes 4"),
        (np.zeros((3, 4)), np.array([0, 1, 3]), "labels run from 0 to 3, the model's 3 classes from 0 to 2"),
        (np.zeros((3, 4)), np.array([-1, 1, 2]), "labels run from -1 to 2"),
        (np.zeros((3, 4)), np.eye(3), "one integer a sample, these are float64"),
        (np.zeros((3, 4)), np.eye(3, dtype=int), "one integer a sample, these are int64"),
    ],
)
def test_data_that_does_not_fit(make_split: Callable[..., Any], x: Any, y: Any, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        require_fit(make_split("test", x, y), facts((None, 4), (None, 3)))
    assert caught.value.where == "data.test"


def test_data_that_fits(make_split: Callable[..., Any]) -> None:
    three, two = facts((None, 4), (None, 3)), facts((None, None), (None, 1))
    assert require_fit(make_split("test", np.zeros((3, 4)), np.array([0, 1, 2], np.uint8)), three) is None
    assert require_fit(make_split("test", np.zeros((3, 4)), np.array([[0], [1], [1]])), two) is None
