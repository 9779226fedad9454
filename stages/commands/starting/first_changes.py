"""Measure which random changes of images a classifier does not mind: those are what it was trained with, or might be.

A network that learns from few images learns them by heart, unless they come changed. Which changes keep what an image
shows depends on the images: a mirrored shoe is a shoe, a mirrored digit is none. The source tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.data import Split
from pipeline.records.values import Value
from stages.finetune.augment import augmented
from stages.finetune.config import Augment
from stages.keras.accuracy import predictor
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasModel
from stages.samples.batches import spread_over

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE_RANK, BATCH = 4, 64
LEAST_SIZE = 16  # pixels; a shift of fewer than two is none
MIRRORED, SHIFTED = Augment(flip="horizontal"), Augment(shift=0.1)
BOTH = Augment(flip="horizontal", shift=0.1)
SEED = 0
MOST_LOST = 0.03  # of accuracy, where half the images are mirrored


class Kept(Value):
    """Report changes of images: `augment` are those that cost at most three points, `accuracy` that with all of them.

    `plain` is the accuracy on the same images as they are, `samples` how many these were.
    """

    augment: Augment
    accuracy: float
    plain: float
    samples: int


def changes_kept(model: KerasModel, split: Split, samples: int) -> Kept | None:
    """Return the changes of images that `model`, a classifier, does not mind; None if it minds all, or takes no images.

    At most so many samples are looked at, spread evenly over the split.
    """
    shape = tuple(model.inputs[0].shape)
    if len(shape) != IMAGE_RANK or None in shape[1:] or min(shape[1:3]) < LEAST_SIZE:
        return None
    indices = spread_over(len(split), samples)
    right = _accuracies(model, split, indices, (Augment(), MIRRORED, SHIFTED, BOTH))
    plain = right[Augment()]
    minded = [change for change in (MIRRORED, SHIFTED) if plain - right[change] > MOST_LOST]
    kept = {(): BOTH, (MIRRORED,): SHIFTED, (SHIFTED,): MIRRORED}.get(tuple(minded))
    return None if kept is None else Kept(augment=kept, accuracy=right[kept], plain=plain, samples=len(indices))


def _accuracies(
    model: KerasModel, split: Split, indices: NDArray[Any], changes: Sequence[Augment]
) -> dict[Augment, float]:
    """Return the share of samples that `model` names rightly, with each of these changes."""
    import numpy as np

    tf = import_tensorflow()
    predict = predictor(model)
    right = dict.fromkeys(changes, 0)
    for start in range(0, len(indices), BATCH):
        images, labels = split.take(indices[start : start + BATCH])
        for change in changes:
            predicted = predict(augmented(tf.constant(images), tf.constant([SEED, start]), change))
            right[change] += int(np.count_nonzero(predicted.numpy() == np.asarray(labels).reshape(-1)))
    return {change: count / len(indices) for change, count in right.items()}
