"""Separate layers that read text at a model's inputs, since no runtime on a device takes strings.

The remaining model begins with the numbers that they make; the layers are described, with their vocabularies, in a
separate file.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from stages.keras.types import KerasLayer, KerasModel, KerasTensor

TEXT = ("StringLookup", "TextVectorization")
SETTINGS = (
    *("max_tokens", "num_oov_indices", "mask_token", "oov_token", "invert", "output_mode", "pad_to_max_tokens"),
    *("standardize", "split", "ngrams", "output_sequence_length", "encoding"),
)


def without_text(model: KerasModel, keras: ModuleType) -> tuple[KerasModel, tuple[dict[str, Any], ...]]:
    """Remove the layers of TEXT at the inputs of a model of either Keras, and return both; unchanged if there are none.

    Its weights are those of `model`.
    """
    # A Sequential model without an input shape has no inputs; it is refused later, with the reason.
    if not any(_is_text(tensor) for tensor in model.inputs or ()):
        return model, ()
    layers = [layer for layer in model.layers if type(layer).__name__ in TEXT]
    if isinstance(model, keras.Sequential):
        return _rest_of_chain(model, keras, layers)
    read = {id(layer.input): layer for layer in layers}
    front = [read.get(id(tensor)) for tensor in model.inputs]
    removed = [layer for layer in front if layer is not None]
    if not removed:
        return model, ()
    inputs = [tensor if layer is None else layer.output for tensor, layer in zip(model.inputs, front, strict=True)]
    ends = [tensors if len(tensors) > 1 else tensors[0] for tensors in (inputs, model.outputs)]
    return keras.Model(*ends, name=model.name), tuple(_described(layer) for layer in removed)


def _rest_of_chain(
    model: KerasModel, keras: ModuleType, layers: list[KerasLayer]
) -> tuple[KerasModel, tuple[dict[str, Any], ...]]:
    first, *others = model.layers
    if first not in layers:
        return model, ()
    made = first.output
    start = keras.Input(tuple(made.shape)[1:], dtype=made.dtype, name=f"{first.name}_numbers")
    return keras.Sequential([start, *others], name=model.name), (_described(first),)


def note_on(described: tuple[dict[str, Any], ...]) -> tuple[str, ...]:
    """Return what a user has to know about them; nothing if there are none."""
    if not described:
        return ()
    names = ", ".join(f"{layer['layer']} ({layer['class']})" for layer in described)
    what = "it reads text, and stays outside the model: the data has to be the numbers that it makes"
    return (f"{names}: {what} (`preprocessing.json` next to the model holds its vocabulary)",)


def _is_text(tensor: KerasTensor) -> bool:
    return str(getattr(tensor.dtype, "name", tensor.dtype)) == "string"


def _described(layer: KerasLayer) -> dict[str, Any]:
    settings = {key: value for key, value in layer.get_config().items() if key in SETTINGS}
    settings["vocabulary"] = [str(word) for word in layer.get_vocabulary()]
    return {"layer": layer.name, "class": type(layer).__name__, "settings": settings}
