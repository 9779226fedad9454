import numpy as np
import pytest

from pipeline.errors import DataError


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("y_train", np.zeros(100, np.float32), "integer class labels"),
        ("y_train", np.zeros((100, 3), np.float32), "no integer class labels"),
        ("y_train", np.eye(100, dtype=np.int64), "no integer class labels"),
        ("y_train", np.full((100, 2), 3), "integer class labels"),
        ("y_train", np.full((100, 2), np.nan), "target of sample 0 is NaN"),
        ("y_train", np.full(100, -1), "label -1"),
        ("y_train", np.full(100, "cat"), "words, such as 'cat'"),
        ("y_train", np.zeros(99, np.int64), "99 labels"),
        ("x_train", np.array([None] * 100, dtype=object), "can't be read"),
    ],
)
def test_data_that_means_nothing_is_named(npz_source, member, value, words, arrays):
    with pytest.raises(DataError, match=words) as caught:
        npz_source(members=arrays() | {member: value}).split("train")
    assert caught.value.hint or "NaN" in words or "integer" in words


def test_targets_that_a_task_needs_and_that_are_not_there(npz_source, arrays):
    members = arrays()
    del members["y_test"]
    with pytest.raises(DataError, match="is classes, and these samples have no targets") as caught:
        npz_source(members=members, task="classes").split("test")
    assert "data.task: unlabelled" in caught.value.hint
    assert caught.value.where.endswith("d.npz: test")


def test_labels_in_a_column_are_taken(npz_source, arrays):
    members = arrays()
    members["y_test"] = members["y_test"][:, None]
    assert npz_source(members=members).split("test").y.shape == (30,)


def test_a_task_by_output_says_what_could_be_two_things_or_leaves_an_output_out(npz_source, heads):
    said = {"kind": "regression", "level": "unlabelled"}
    split = npz_source(members=heads(), task=said).split("test")
    assert (split.task, list(split.y)) == ({"kind": "regression"}, ["kind"])
    with pytest.raises(DataError, match=r"data\.task names 'kin', which has no targets here") as caught:
        npz_source(members=heads(), task={"kin": "classes"}).split("test")
    assert "kind" in caught.value.hint
    with pytest.raises(DataError, match=r"data\.task is by output, the targets have no names"):
        npz_source(task={"kind": "classes"}).split("test")


@pytest.mark.parametrize("dtype", [np.int64, np.float32, bool])
def test_one_hot_labels_are_class_numbers_where_the_recipe_says_classes(npz_source, arrays, dtype):
    members = arrays()
    hot = {name: np.eye(12, dtype=dtype)[members[name]] for name in ("y_train", "y_test")}
    split = npz_source(members=members | hot, task="classes").split("test")
    assert (split.task, split.y.tolist()) == ("classes", members["y_test"].tolist())
    members["y_test"] = np.zeros((30, 12), dtype)
    with pytest.raises(DataError, match="integer class labels"):
        npz_source(members=members, task="classes").split("test")
