"""Test samples for criteria: a split's inputs in the model's order, labels if there are any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.data import Preprocess
from pipeline.errors import DataError
from stages.keras.tensorflow import import_keras
from stages.samples.model_samples import samples_of

A, B = np.arange(8.0).reshape(4, 2), np.arange(12.0).reshape(4, 3)


@pytest.fixture(scope="module")
def model() -> Any:
    keras = import_keras()
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    return keras.Model([a, b], keras.layers.Concatenate(name="both")([a, b]), name="two")


def test_inputs_come_in_the_model_s_order_and_labels_may_be_missing(make_split: Callable[..., Any], model: Any) -> None:
    split = replace(make_split("train", None, None, Preprocess(scale=2.0), "unlabelled"), x={"b": B, "a": A})
    samples = samples_of(model, split)
    (a, b), labels = samples.read(1, 3)
    np.testing.assert_array_equal(a, 2 * A[1:3])
    np.testing.assert_array_equal(b, 2 * B[1:3])
    assert labels is None
    assert [len(inputs[0]) for inputs, _ in samples.batches(3)] == [3, 1]


def test_inputs_of_other_names_or_shapes_are_refused(make_split: Callable[..., Any], model: Any) -> None:
    split = make_split("train", A, np.zeros(4, int))
    with pytest.raises(DataError, match="the data has inputs a, c, the model a, b"):
        samples_of(model, replace(split, x={"a": A, "c": B}))
    with pytest.raises(DataError, match="samples are 2, the model's input 'b' takes 3"):
        samples_of(model, replace(split, x={"a": A, "b": A}))
