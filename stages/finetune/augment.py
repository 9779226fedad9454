"""Transform a batch before the model sees it: random changes of images, blends of samples, softer labels.

Everything here is a pure function of its arguments, including the seed of the batch: nothing has state that would have
to be restored after a kill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from stages.finetune.batches import Transform
from stages.finetune.config import Augment, FinetuneConfig
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import TfTensor, TfTensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLIPPED_ROWS, FLIPPED_COLUMNS, CROPPED, SHIFTED, BLENDED = range(5)  # each draws from a separate seed
FLIPPED_AXES = {"vertical": (FLIPPED_ROWS,), "horizontal": (FLIPPED_COLUMNS,), "both": (FLIPPED_ROWS, FLIPPED_COLUMNS)}


def training_transform(
    config: FinetuneConfig,
    outputs: int | Mapping[str, int] | None,
    class_weights: NDArray[Any] | Mapping[str, NDArray[Any]] | None,
) -> Transform | None:
    """Build the transform that the settings ask for, or None. `outputs` is the number of outputs for soft labels.

    `class_weights` has the weight of each class, (classes,), or is None. Both are mappings where labels are.
    """
    if config.augment == Augment() and not config.mixup and outputs is None and class_weights is None:
        return None

    def transform(seed: TfTensor, inputs: TfTensors, labels: TfTensors) -> tuple[TfTensors, ...]:
        tf = import_tensorflow()
        parts: dict[str, TfTensors] = {"inputs": augmented(inputs, seed, config.augment), "labels": labels}
        if class_weights is not None:
            parts["weights"] = _with_each(class_weights, labels, lambda w, y: tf.gather(tf.constant(w, tf.float32), y))
        if outputs is not None and labels is not None:
            soft = _with_each(outputs, labels, lambda size, y: shares(y, size, config.label_smoothing))
            parts["labels"] = {**labels, **soft} if isinstance(labels, Mapping) else soft
        if config.mixup:
            parts = blended(parts, _fold(seed, BLENDED), config.mixup)
        return tuple(part for part in parts.values() if part is not None)

    return transform


def validation_transform(outputs: int | Mapping[str, int] | None) -> Transform | None:
    """Convert labels to shares if the training's are; nothing else changes in validation."""
    if outputs is None:
        return None

    def transform(_seed: TfTensor, inputs: TfTensors, labels: TfTensors) -> tuple[TfTensors, ...]:
        hard = _with_each(outputs, labels, lambda size, y: shares(y, size, 0.0))
        return inputs, {**labels, **hard} if isinstance(labels, Mapping) else hard

    return transform


def _with_each(settings: Any, labels: TfTensors, apply: Callable[[Any, TfTensor], TfTensor]) -> TfTensors:
    """Call `apply` with what is given for labels and the labels: one pair, or one per output that has it."""
    if isinstance(settings, Mapping):
        return {name: apply(setting, labels[name]) for name, setting in settings.items()}
    return apply(settings, labels)


def shares(labels: TfTensor, outputs: int, smoothing: float) -> TfTensor:
    """Convert class numbers (N,) to shares (N, outputs): 1 for the class, of which `smoothing` is spread evenly.

    A single output gets the share of class 1.
    """
    tf = import_tensorflow()
    if outputs == 1:
        return (tf.cast(labels[:, None], tf.float32) - 0.5) * (1 - smoothing) + 0.5
    return tf.one_hot(labels, outputs) * (1 - smoothing) + smoothing / outputs


def augmented(images: TfTensor, seed: TfTensor, settings: Augment) -> TfTensor:
    """Mirror, crop and shift images (N, height, width, channels) at random; the shape stays."""
    tf = import_tensorflow()
    for axis in FLIPPED_AXES.get(settings.flip or "", ()):
        drawn = tf.random.stateless_uniform(tf.shape(images)[:1], _fold(seed, axis))
        # The purposes of flips are 0 for rows and 1 for columns; axis 0 of the images is the batch.
        images = tf.where((drawn < 0.5)[:, None, None, None], tf.reverse(images, [axis + 1]), images)
    if settings.crop:
        images = _moved(images, _fold(seed, CROPPED), (settings.crop, settings.crop), repeat=False)
    if settings.shift:
        furthest = tuple(round(settings.shift * size) for size in images.shape[1:3])
        images = _moved(images, _fold(seed, SHIFTED), furthest, repeat=True)
    return images


def blended(parts: dict[str, TfTensors], seed: TfTensor, alpha: float) -> dict[str, TfTensors]:
    """Blend each sample with the one at the other end of the batch, with a weight from a Beta distribution (mixup)."""
    tf = import_tensorflow()
    count = tf.shape(tf.nest.flatten(parts)[0])[0]
    gammas = tf.random.stateless_gamma(tf.stack([2, count]), seed, alpha)
    total = gammas[0] + gammas[1]  # both can be 0 in float32 if alpha is small
    own = tf.where(total > 0, gammas[0] / tf.maximum(total, 1e-30), 0.5)

    def blend(part: TfTensor) -> TfTensor:
        share = tf.reshape(own, [-1] + [1] * (len(part.shape) - 1))
        return share * part + (1 - share) * tf.reverse(part, [0])

    return {name: None if part is None else tf.nest.map_structure(blend, part) for name, part in parts.items()}


def _moved(images: TfTensor, seed: TfTensor, furthest: tuple[int, ...], *, repeat: bool) -> TfTensor:
    """Shift each image by up to `furthest` pixels in each direction.

    The uncovered edge is the edge repeated, or zero.
    """
    tf = import_tensorflow()
    for axis, most in enumerate(furthest, start=1):
        size, count = images.shape[axis], tf.shape(images)[0]
        moves = tf.random.stateless_uniform([count], _fold(seed, axis), -most, most + 1, tf.int32)
        # By gathering: `tf.roll` shifts a whole batch by one number.
        positions = tf.range(size)[None] + moves[:, None]
        inside = tf.clip_by_value(positions, 0, size - 1)
        images = tf.gather(images, inside, axis=axis, batch_dims=1)
        if not repeat:
            known = tf.reshape(positions == inside, [-1, *(size if other == axis else 1 for other in (1, 2)), 1])
            images = tf.where(known, images, tf.zeros((), images.dtype))
    return images


def _fold(seed: TfTensor, purpose: int) -> TfTensor:
    return import_tensorflow().random.experimental.stateless_fold_in(seed, purpose)
