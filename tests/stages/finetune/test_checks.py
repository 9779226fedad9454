import numpy as np
import pytest

from pipeline.artifacts import KerasFacts, TensorSpec
from pipeline.errors import DataError, PreconditionError
from stages.finetune.checks import class_weights, require_data, require_teacher, require_trainable
from stages.finetune.config import FinetuneConfig


def facts(outputs=((None, 2),), inputs=(("image", (None, 6, 6, 1)),)):
    def specs(pairs):
        return tuple(TensorSpec(name=name, shape=shape, dtype="float32") for name, shape in pairs)

    named = tuple((f"out{i}", shape) for i, shape in enumerate(outputs))
    return KerasFacts(params=1, macs=1, inputs=specs(inputs), outputs=specs(named), sparsity=0.0)


def test_one_output_of_numbers_is_what_can_be_trained():
    require_trainable(facts())
    for outputs in (((None, 2), (None, 2)), ((None, 4, 2),), ((None, None),)):
        with pytest.raises(PreconditionError, match="one output"):
            require_trainable(facts(outputs))


def test_a_teacher_of_other_shapes_is_refused():
    require_teacher(facts(), facts())
    with pytest.raises(PreconditionError, match=r"outputs are \[\(None, 3\)\], the teacher's \[\(None, 2\)\]"):
        require_teacher(facts(((None, 3),)), facts())
    with pytest.raises(PreconditionError, match="inputs are"):
        require_teacher(facts(inputs=(("image", (None, 8, 8, 1)),)), facts())


@pytest.mark.parametrize(("task", "outputs"), [("classes", 2), ("multilabel", 3), ("regression", 2), ("unlabelled", 9)])
def test_data_of_each_task_fits_a_model_with_as_many_outputs(pair, task, outputs):
    require_data(pair(task)[0], facts(((None, outputs),)))


@pytest.mark.parametrize(
    ("task", "changed", "words"),
    [
        ("multilabel", {}, r"targets have shape \(3,\) a sample, the model gives 2 numbers"),
        ("regression", {"inputs": (("image", (None, 6, 6, 3)),)}, "does not fit"),
        (
            "regression",
            {"inputs": (("a", (None, 6, 6, 1)), ("b", (None, 1)))},
            "the data has the inputs a, the model a, b",
        ),
    ],
)
def test_data_that_does_not_fit_is_named(pair, task, changed, words):
    with pytest.raises(DataError, match=words) as caught:
        require_data(pair(task)[0], facts(**changed))
    assert caught.value.where == "data.train"


def test_several_inputs_are_held_against_the_model_s_by_name(samples):
    two = facts(inputs=(("a", (None, 3)), ("b", (None, 1))))
    x = {"a": np.zeros((4, 3), np.float32), "b": np.zeros((4, 1), np.float32)}
    require_data(samples("train", x, np.array([0, 1, 0, 1])), two)
    with pytest.raises(DataError, match="labels run from 0 to 5, the model has 2 classes"):
        require_data(samples("train", x, np.array([0, 1, 0, 5])), two)
    with pytest.raises(DataError, match="holds no samples"):
        require_data(samples("train", {name: part[:0] for name, part in x.items()}, np.zeros(0, int)), two)


def test_balanced_weights_make_the_sum_of_each_class_the_same(samples):
    y = np.array([0] * 6 + [1] * 3 + [3] * 1)
    weights = class_weights(FinetuneConfig(class_weights="balanced"), samples("train", y, y), 4)
    np.testing.assert_allclose([weights[label] * (y == label).sum() for label in (0, 1, 3)], 10 / 3, rtol=1e-6)
    assert class_weights(FinetuneConfig(), samples("train", y, y), 4) is None
    given = class_weights(FinetuneConfig(class_weights={1: 2.0}), samples("train", y, y), 1)
    assert given.tolist() == [1, 2]  # one output tells two classes apart
