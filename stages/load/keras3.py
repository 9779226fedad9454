"""Translate Keras 3 models: Keras 3 reads them, tf_keras rebuilds them, weights are copied layer by layer.

Both Keras versions live in one process. Keras 3 is the reference: the translated model must reproduce its outputs on
random inputs.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError
from pipeline.system.quiet import quiet
from stages.keras.free_sizes import NOTHING, Wanted, settle
from stages.keras.normal_form import random_inputs, renew_constants
from stages.keras.rounding import difference_beyond_rounding
from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasLayer, KerasModel, TfVariable
from stages.load.keras3_graph import build_graph
from stages.load.keras3_layers import Objects, refused
from stages.load.keras3_translation import Translation

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE = 1e-5  # of a translated model's outputs, relative to the original's largest
# A depthwise convolution's kernel is `kernel` in Keras 3 and `depthwise_kernel` in tf_keras.
RENAMED_WEIGHTS = {"depthwise_kernel": "kernel"}


@cache
def import_keras3() -> ModuleType:
    """Return the `keras` module (Keras 3) on TensorFlow, next to tf_keras."""
    import_keras()  # first: it decides which Keras TensorFlow itself shows
    # The user's ~/.keras/keras.json may name another backend.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with quiet():
        import keras
    if keras.backend.backend() != "tensorflow":
        hint = "start a process that has not imported keras before"
        raise ModelError(f"Keras 3 runs on {keras.backend.backend()} already", hint=hint)
    return keras  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Carried:
    """Hold a model in tf_keras, its largest relative output difference from its original on random inputs, and notes.

    `outside` describes what was kept outside of it.
    """

    model: KerasModel
    difference: float = 0.0
    notes: tuple[str, ...] = ()
    outside: tuple[dict[str, Any], ...] = ()


def carry_over(original: KerasModel, objects: Objects, wanted: Wanted = NOTHING) -> Carried:
    """Translate a Keras 3 model to tf_keras and compare both, at the `wanted` sizes if it leaves any open."""
    translation = Translation(objects)
    model = build_graph(json.loads(original.to_json()), original, translation)
    _carry_weights(original, model, translation.traced)
    renew_constants(model)
    # After the weights: an open size is chosen by whether outputs are finite.
    settle(model, wanted)
    return Carried(model, _difference(original, model), translation.notes())


def _carry_weights(source: KerasLayer, target: KerasLayer, done: Container[int]) -> None:
    """Copy all weights, layer by layer; those of the layers in `done`, by identity, are in the graph already."""
    if not hasattr(source, "layers"):
        values = _values(source)
        variables = [(str(w.name).split(":")[0].rpartition("/")[2], w) for w in target.weights]
        for variable, value in _matched(values, variables, source):
            variable.assign(value)
        return
    by_name = {layer.name: layer for layer in target.layers}
    for layer in source.layers:
        if layer.weights and id(layer) not in done:
            _carry_weights(layer, by_name[layer.name], done)


def _values(layer: KerasLayer) -> list[tuple[str, NDArray[Any]]]:
    """Return a layer's weights by name; LoRA's additions to a kernel are merged into it."""
    parts = [part for part in layer._flatten_layers() if getattr(part, "lora_enabled", False)]  # noqa: SLF001
    merged = {id(part._kernel): part.kernel for part in parts}  # noqa: SLF001 - its own name is that of the sum
    values = [(str(w.name), merged.get(id(w), w)) for w in layer.weights if not str(w.name).startswith("lora_")]
    return [(name, value.numpy()) for name, value in values]


def _matched(
    values: list[tuple[str, NDArray[Any]]], variables: list[tuple[str, TfVariable]], layer: KerasLayer
) -> Iterator[tuple[TfVariable, NDArray[Any]]]:
    """Match variables with their values: by name and shape, in order among equals; else by shapes in order."""
    by_key: dict[Any, list[Any]] = defaultdict(list)
    for name, value in values:
        by_key[RENAMED_WEIGHTS.get(name, name), tuple(value.shape)].append(value)
    wanted = [((RENAMED_WEIGHTS.get(name, name), tuple(variable.shape)), variable) for name, variable in variables]
    if sorted(map(str, (key for key, _ in wanted))) == sorted(str(k) for k, several in by_key.items() for _ in several):
        return iter([(variable, by_key[key].pop(0)) for key, variable in wanted])
    if [tuple(value.shape) for _, value in values] == [shape for (_, shape), _ in wanted]:
        return iter([(variable, value) for (_, variable), (_, value) in zip(variables, values, strict=True)])
    theirs, ours = ([f"{n} {tuple(v.shape)}" for n, v in pairs] for pairs in (values, variables))
    raise refused(layer.name, type(layer).__name__, f"its weights are {', '.join(theirs)}, here {', '.join(ours)}")


def masked(inputs: list[NDArray[Any]], model: KerasModel) -> list[NDArray[Any]]:
    """Mask the last steps of every other sample if the model masks, so that masks are tested."""
    values = {layer.mask_value for layer in model._flatten_layers() if type(layer).__name__ == "Masking"}  # noqa: SLF001
    for array in inputs if values else ():
        if array.ndim > 2 and array.shape[1] > 1 and array.dtype.kind == "f":
            array[::2, -(array.shape[1] // 2) :] = next(iter(values))
    return inputs


def _difference(original: KerasModel, model: KerasModel) -> float:
    keras, inputs = import_keras3(), masked(random_inputs(model), model)
    structure = getattr(original, "_inputs_struct", original.inputs)

    def run(arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        outputs = original(keras.tree.pack_sequence_as(structure, arrays), training=False)
        return [keras.ops.convert_to_numpy(tensor) for tensor in keras.tree.flatten(outputs)]

    actual = model(inputs, training=False)
    return difference_beyond_rounding(run, inputs, run(inputs), actual, tolerance=TOLERANCE)
