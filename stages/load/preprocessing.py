"""Split off preprocessing layers at a model's front, so that the data's preprocessing can do their work.

A front is a chain of such layers from the only input on, each read by the next alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pipeline.errors import PostconditionError
from stages.keras.normal_form import copy_model, random_inputs
from stages.keras.rounding import difference_beyond_rounding
from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasLayer, KerasModel, KerasTensor

FRONT = ("Rescaling", "Normalization", "Resizing", "CenterCrop")
TOLERANCE = 1e-6


def split_front(model: KerasModel) -> tuple[KerasModel, tuple[dict[str, Any], ...]]:
    """Return the model without the preprocessing layers at its front, and those in order: class, settings, statistics.

    Raises:
        PostconditionError: the rest does not give the same on the front's output.
    """
    front = _front(model)
    if not front:
        return model, ()
    keras, features = import_keras(), front[-1].output
    if isinstance(model, keras.Sequential):
        start = keras.Input(batch_shape=features.shape, dtype=features.dtype, name=model.input_names[0])
        rest = copy_model(keras.Sequential([start, *model.layers[len(front) :]], name=model.name))
    else:
        rest = copy_model(keras.Model(features, model.outputs, name=model.name))
    _check(model, front, rest)
    return rest, tuple(_described(layer) for layer in front)


def _front(model: KerasModel) -> list[KerasLayer]:
    """Return the preprocessing layers that the only input passes through, as long as each feeds only the next."""
    front: list[KerasLayer] = []
    tensor = model.inputs[0] if len(model.inputs) == 1 else None
    layers = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
    # Not the last one: something has to be left.
    for layer in layers[:-1]:
        known = type(layer).__name__ in FRONT and len(layer.inbound_nodes) == 1
        if not known or layer.input is not tensor or _readers(model, tensor) != 1:
            break
        front.append(layer)
        tensor = layer.output
    return front


def _readers(model: KerasModel, tensor: KerasTensor) -> int:
    """Return how many calls in the model read a tensor."""
    nodes = [node for depth in model._nodes_by_depth.values() for node in depth]  # noqa: SLF001
    return sum(tensor is read for node in nodes for read in node.keras_inputs)


def _described(layer: KerasLayer) -> dict[str, Any]:
    """Describe a layer as plain data; a Normalization's statistics replace its weights."""
    common = ("name", "trainable", "dtype", "batch_input_shape")
    settings = {key: value for key, value in layer.get_config().items() if key not in common}
    if type(layer).__name__ == "Normalization":
        settings |= {key: getattr(layer, key).numpy().ravel().tolist() for key in ("mean", "variance")}
    return {"layer": layer.name, "class": type(layer).__name__, "settings": settings}


def _check(model: KerasModel, front: list[KerasLayer], rest: KerasModel) -> None:
    inputs = random_inputs(model)
    features = inputs[0]
    for layer in front:
        features = layer(features)
    run = partial(model, training=False)
    difference = difference_beyond_rounding(run, inputs, run(inputs), rest(features, training=False), TOLERANCE)
    # Not `>`: NaN has to fail.
    if not difference <= TOLERANCE:
        what = f"without its preprocessing the model differs by {difference:.1e} (relative)"
        raise PostconditionError(what, where=front[-1].name, hint="keep it: `model: {path: …, preprocess: keep}`")
