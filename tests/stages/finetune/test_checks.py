import numpy as np
import pytest

from pipeline.errors import PreconditionError
from pipeline.records.artifacts import TensorSpec
from pipeline.records.facts import KerasFacts
from stages.finetune.checks import class_weights, require_blendable, require_teacher
from stages.finetune.config import FinetuneConfig
from stages.keras.tensorflow import import_keras


def facts(outputs=((None, 2),), inputs=(("image", (None, 6, 6, 1)),)):
    def specs(pairs):
        return tuple(TensorSpec(name=name, shape=shape, dtype="float32") for name, shape in pairs)

    named = tuple((f"out{i}", shape) for i, shape in enumerate(outputs))
    return KerasFacts(params=1, macs=1, inputs=specs(inputs), outputs=specs(named), sparsity=0.0)


def test_a_teacher_of_other_shapes_is_refused():
    require_teacher(facts(), facts())
    with pytest.raises(PreconditionError, match=r"outputs are \[\(None, 3\)\], the teacher's \[\(None, 2\)\]"):
        require_teacher(facts(((None, 3),)), facts())
    with pytest.raises(PreconditionError, match="inputs are"):
        require_teacher(facts(inputs=(("image", (None, 8, 8, 1)),)), facts())


def test_balanced_weights_make_the_sum_of_each_class_the_same(samples):
    y = np.array([0] * 6 + [1] * 3 + [3] * 1)
    weights = class_weights(FinetuneConfig(class_weights="balanced"), samples("train", y, y), 4)
    np.testing.assert_allclose([weights[label] * (y == label).sum() for label in (0, 1, 3)], 10 / 3, rtol=1e-6)
    assert class_weights(FinetuneConfig(), samples("train", y, y), 4) is None
    given = class_weights(FinetuneConfig(class_weights={1: 2.0}), samples("train", y, y), 1)
    assert given.tolist() == [1, 2]  # one output distinguishes two classes


def test_whole_numbers_are_not_blended():
    layers = import_keras().layers
    inputs = layers.Input((4,), dtype="int32", name="words")
    words = import_keras().Model(inputs, layers.Flatten()(layers.Embedding(9, 2)(inputs)))
    require_blendable(words, FinetuneConfig())
    with pytest.raises(PreconditionError, match="whole numbers") as caught:
        require_blendable(words, FinetuneConfig(mixup=0.2))
    assert caught.value.where == "finetune.mixup"
