"""Test data that does not fit a model, and models that are not classifiers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.errors import DataError, PreconditionError
from pipeline.records.artifacts import TensorSpec
from pipeline.records.facts import KerasFacts
from stages.samples.checks import require_class_labels, require_classifier, require_fit


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
        (facts((None, 4), (None, 3), (None, 3)), "one output, this one has 2"),
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
    ],
)
def test_data_that_does_not_fit(make_split: Callable[..., Any], x: Any, y: Any, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        require_fit(make_split("test", x, y), facts((None, 4), (None, 3)))
    assert caught.value.where == "data.test"


@pytest.mark.parametrize(
    ("sample", "hint"),
    [((8, 6), r"store x\[..., None\]"), ((1, 8, 6), "numpy.moveaxis"), ((8, 7, 1), "reshape or resize")],
)
def test_axes_that_differ_are_told_apart_from_sizes(make_split: Callable[..., Any], sample: Any, hint: str) -> None:
    with pytest.raises(DataError, match="the model's input 'x' takes 8×6×1") as caught:
        require_fit(make_split("test", np.zeros((3, *sample)), np.arange(3)), facts((None, 8, 6, 1), (None, 3)))
    assert caught.value.hint is not None
    assert re.search(hint, caught.value.hint)


def test_data_that_fits(make_split: Callable[..., Any]) -> None:
    three, two = facts((None, 4), (None, 3)), facts((None, None), (None, 1))
    assert require_fit(make_split("test", np.zeros((3, 4)), np.array([0, 1, 2], np.uint8)), three) is None
    assert require_fit(make_split("test", np.zeros((3, 4)), np.array([[0], [1], [1]])), two) is None


def named(split: Any, **inputs: Any) -> Any:
    return replace(split, x=inputs)


def test_several_inputs_are_matched_by_name(make_split: Callable[..., Any]) -> None:
    both = facts((None, 4), (None, 3))
    both = both.model_copy(update={"inputs": (*both.inputs, TensorSpec(name="z", shape=(None, 2), dtype="float32"))})
    split = make_split("train", np.zeros((3, 4)), np.array([0, 1, 2]))
    with pytest.raises(DataError, match="one input, the model takes x, z"):
        require_fit(split, both)
    with pytest.raises(DataError, match="its inputs are x, y, the model's x, z"):
        require_fit(named(split, x=np.zeros((3, 4)), y=np.zeros((3, 2))), both)
    with pytest.raises(DataError, match="samples are 5, the model's input 'z' takes 2"):
        require_fit(named(split, z=np.zeros((3, 5)), x=np.zeros((3, 4))), both)
    require_fit(named(split, z=np.zeros((3, 2)), x=np.zeros((3, 4))), both)


@pytest.mark.parametrize(("task", "shape"), [("regression", (3,)), ("regression", (3, 2)), ("multilabel", (3, 4))])
def test_targets_have_the_shape_of_the_output(make_split: Callable[..., Any], task: Any, shape: Any) -> None:
    split = make_split("test", np.zeros((3, 4)), np.zeros(shape, np.float32), task=task)
    with pytest.raises(DataError, match=r"a sample, the model's output 'y0' is \(3,\)"):
        require_fit(split, facts((None, 4), (None, 3)))
    require_fit(split, facts((None, 4), (None, *(shape[1:] or (1,)))))


def test_labels_are_only_missed_where_they_are_needed(make_split: Callable[..., Any]) -> None:
    split = make_split("train", np.zeros((3, 4)), None, task="unlabelled")
    assert require_fit(split, facts((None, 4), (None, 3)), labels=False) is None
    with pytest.raises(DataError, match="no labels, and they are needed"):
        require_fit(split, facts((None, 4), (None, 3)))
    with pytest.raises(PreconditionError, match="taylor needs class labels, the train split is for unlabelled"):
        require_class_labels(split, "taylor")


def test_class_names_and_the_model_s_classes_are_as_many(make_split: Callable[..., Any]) -> None:
    split = replace(make_split("test", np.zeros((3, 4)), np.array([0, 1, 1])), classes=("cat", "dog"))
    with pytest.raises(DataError, match="the data has 2 classes, the model 3"):
        require_fit(split, facts((None, 4), (None, 3)))
    require_fit(split, facts((None, 4), (None, 1)))
