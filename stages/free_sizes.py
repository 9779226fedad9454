"""Sizes that a model leaves open: what stands for them wherever the model is run on made-up inputs.

One size for all of them, the first of a list that the network runs at: so it follows from the model alone, and every
stage finds the same. Many networks run at any; those with unpadded layers need so many pixels, those that halve and
double need multiples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from pipeline.errors import ModelError, reason_of
from stages.tf_runtime import import_tensorflow

SIZES = (96, 128, 64, 160, 192, 224, 256, 32, 320, 384, 448, 512, 640, 16, 8, 100, 150, 200, 300, 400, 500, 600)
_known: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def leaves_sizes_open(model: Any) -> bool:
    """Whether any of a model's inputs has a free size beside the batch."""
    return any(size is None for tensor in model.inputs for size in tensor.shape[1:])


def free_size(model: Any) -> int:
    """What stands for the sizes that `model` leaves open: the first of SIZES at which it runs.

    Raises:
        ModelError: it runs at none of them.
    """
    if not leaves_sizes_open(model):
        return SIZES[0]
    if model not in _known:
        _known[model] = _found(model)
    return _known[model]


def filled(shape: Sequence[int | None], size: int, batch: int) -> tuple[int, ...]:
    """A shape with numbers in all places."""
    first, *rest = shape
    return (first or batch, *(size if one is None else int(one) for one in rest))


def _found(model: Any) -> int:
    said, runs = "", None
    for size in SIZES:
        try:
            outputs = _outputs(model, size)
        except Exception as error:  # noqa: BLE001 - Keras raises whatever its layers raise
            said = said or reason_of(error)
            continue
        if _says_something(outputs):
            return size
        runs = runs or size
    if runs:
        return runs
    tried = ", ".join(map(str, sorted(SIZES)))
    what = f"the model leaves sizes of its inputs open, and runs at none of {tried}: {said}"
    raise ModelError(what, where=model.name, hint="fix its sizes: keras.Input((height, width, channels))")


def _outputs(model: Any, size: int) -> list[Any]:
    """What the model gives on one sample of noise.

    ModelError where something on the way is empty: oneDNN's convolution then gives numbers all the same.
    """
    import numpy as np

    shapes = [filled(tensor.shape, size, 1) for tensor in model.inputs]
    if any(not one for shape in _shapes_inside(model, shapes) for one in shape):
        raise ModelError("nothing is left of a sample on its way", where=model.name)
    rng, inputs = np.random.default_rng(0), []
    for tensor, shape in zip(model.inputs, shapes, strict=True):
        drawn = rng.standard_normal(shape) if tensor.dtype.is_floating else np.zeros(shape)
        inputs.append(drawn.astype(tensor.dtype.as_numpy_dtype))
    made = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    return [np.asarray(one) for one in (made if isinstance(made, list | tuple) else [made])]


def _shapes_inside(model: Any, shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The shapes of all numbers that are computed on the way, as far as they follow from those of the inputs."""
    tf = import_tensorflow()
    graph = tf.__internal__.FuncGraph("sizes")
    with graph.as_default():
        given = [tf.compat.v1.placeholder(t.dtype, s) for t, s in zip(model.inputs, shapes, strict=True)]
        model(given if len(given) > 1 else given[0], training=False)
    made = [out for node in graph.get_operations() if node.inputs for out in node.outputs]
    return [tuple(out.shape) for out in made if out.dtype.is_floating and out.shape.is_fully_defined()]


def _says_something(outputs: list[Any]) -> bool:
    """Whether all numbers are numbers: a mean over nothing is none."""
    import numpy as np

    return all(one.dtype.kind not in "fc" or np.isfinite(one).all() for one in outputs)
