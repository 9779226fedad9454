import gc
import weakref
from dataclasses import fields

import numpy as np
import pytest

from pipeline.errors import PostconditionError
from stages.finetune.checkpoints import Checkpoints
from stages.finetune.config import Distill, Features, FinetuneConfig, QuantizationAware, Regularize
from stages.finetune.session import Session, first_that_counts
from stages.finetune.training import fine_tune
from stages.keras.sparsity import PlannedKernel, SparsityPlan
from stages.keras.tensorflow import tensorflow_action


def test_nothing_of_a_training_outlives_it(network, pair):
    """TensorFlow keeps every class that it has seen: one that held a session or a teacher would keep their weights."""
    alive = []
    with tensorflow_action(0, 2):
        for distill in (None, Distill(features=Features(layers=("conv",)))):
            student, teacher = network(), network()
            config = FinetuneConfig(epochs=1, batch=16, distill=distill, regularize=Regularize(groups=0.1))
            fine_tune(student, config, *pair(), 3, teacher=teacher)
            alive += [weakref.ref(student), weakref.ref(teacher)]
            del student, teacher
    gc.collect()
    assert [one() for one in alive] == [None] * 4
    assert not [one for one in gc.get_objects() if isinstance(one, Session)]


def test_the_start_counts_if_it_has_its_zeros_and_needs_no_trained_quantizers():
    def plan(reached_at):
        return SparsityPlan(
            criterion="magnitude",
            scope="layer",
            pattern="free",
            block=(4, 4),
            reached_at=reached_at,
            seed=1,
            kernels=(PlannedKernel(layer="conv", weight=0, share=0.5),),
        )

    plain = FinetuneConfig(epochs=4)
    aware = FinetuneConfig(epochs=4, quantization_aware=QuantizationAware())
    plans = (None, plan(0.0), plan(0.1), plan(0.5), plan(1.0))
    assert [first_that_counts(plain, one) for one in plans] == [0, 0, 2, 3, 4]
    assert first_that_counts(aware, None) == 1
    assert first_that_counts(FinetuneConfig(epochs=4, regularize=Regularize(groups=0.1)), None) == 4


def of_kind(kind, split):
    """Return the same split, read in another way."""
    return kind(*(getattr(split, field.name) for field in fields(split)))


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        ("targets", "the loss became nan in epoch 2, step 3 of 5"),
        ("inputs", "weights of .* became no numbers in epoch 2"),
    ],
)
def test_what_becomes_no_number_leaves_the_last_good_checkpoint(network, pair, tmp_path, spoilt, words):
    """One batch of the second epoch is NaN; progress is so rare that nobody looks for a while.

    NaN as inputs can leave the loss finite: on some CPUs ReLU turns it into zero.
    """
    training, validation = pair("regression")
    read = []

    class Spoilt(type(training)):
        def take(self, indices):
            inputs, targets = super().take(indices)
            read.extend([len(targets)] if len(targets) > 1 else [])  # batches, not looks at the first sample
            if len(read) != 5 + 3:
                return inputs, targets
            spoil = np.float32("nan")
            return (inputs, targets * spoil) if spoilt == "targets" else (inputs * spoil, targets)

    split = of_kind(Spoilt, training)
    config, checkpoints = FinetuneConfig(epochs=3, batch=16), Checkpoints(tmp_path)
    either = words if spoilt == "targets" else f"{words}|the loss became nan in epoch 2"
    with tensorflow_action(3, 2), pytest.raises(PostconditionError, match=either) as caught:
        fine_tune(network(2, None), config, split, validation, 3, checkpoints, progress_interval_s=60)
    assert "learning_rate" in caught.value.hint
    assert [path.name for path in tmp_path.glob("epoch-*")] == ["epoch-00001.checkpoint"]
    assert all(np.isfinite(array).all() for array in checkpoints.latest().arrays.values())
