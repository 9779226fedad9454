"""Derive from a recipe's trainings the one that a network with random weights gets, to be compared at equal effort."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil

from stages.finetune.config import FinetuneConfig

# What suits only weights that are trained already. Frozen, random ones would stay random; training stops early where a
# trained network has nothing left to learn, and the comparison is at equal steps (the best epoch is kept all the same).
NOT_FROM_SCRATCH = {
    "freeze": (),
    "freeze_batch_norm": False,
    "quantization_aware": None,
    "early_stopping": None,
    "regularize": None,
}


def from_scratch(trainings: Sequence[FinetuneConfig], source_epochs: int) -> FinetuneConfig:
    """Return the settings of one training from random weights with as many steps as all `trainings` together.

    Everything else, the teacher included, is as in the last of them that is not quantization-aware: such a training
    begins with weights that are nearly right, and its learning rate is too small for others. `source_epochs` are added.
    """
    likewise = next((one for one in reversed(trainings) if one.quantization_aware is None), trainings[-1])
    # An epoch of half the batch has twice the steps. Rounded up, so that the yardstick never gets less.
    epochs = ceil(sum(Fraction(one.epochs * likewise.batch, one.batch) for one in trainings))
    return likewise.model_copy(update={**NOT_FROM_SCRATCH, "epochs": source_epochs + epochs})
