"""Note what a user should know about a newly loaded model: frozen layers, and how wrapped ones train on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pipeline.errors import first_few, numbered
from stages.keras.types import KerasModel
from stages.keras.wrappers import CLUSTERING, QUANTIZATION, carrying, wrappers_in

WRAPPERS = {
    CLUSTERING: "`finetune` goes on with it, `strip` takes it off",
    QUANTIZATION: "the model was trained for int8, and goes on at `quantize`",
}


def notes_on(model: KerasModel, split_off: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Return one sentence each."""
    frozen = [layer.name for layer in model.layers if layer.weights and not layer.trainable]
    notes = []
    if frozen:
        are = "is" if len(frozen) == 1 else "are"
        notes.append(f"{numbered(len(frozen), 'layer')} {are} not trainable: {first_few(frozen)}")
    kinds = Counter(wrappers_in(model).values())
    notes += [f"{carrying(kinds[kind], kind)}: {text}" for kind, text in WRAPPERS.items() if kinds[kind]]
    if split_off:
        names = ", ".join(f"{front['layer']} ({front['class']})" for front in split_off)
        notes.append(f"{names} was split off the front: the data has to be preprocessed so instead")
    return tuple(notes)
