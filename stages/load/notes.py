"""Note what a user should know about a newly loaded model: frozen layers, and how wrapped ones train on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pipeline.errors import numbered
from stages.keras.types import KerasModel
from stages.keras.wrappers import CLUSTERING, QUANTIZATION, wrappers_in

SHOWN = 3
WRAPPERS = {
    CLUSTERING: "carry tfmot's clustering wrapper: `finetune` goes on with it, `strip` takes it off",
    QUANTIZATION: "carry tfmot's quantization wrapper: they were trained for int8, and go on at `quantize`",
}


def notes_on(model: KerasModel, split_off: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Return one sentence each."""
    frozen = [layer.name for layer in model.layers if layer.weights and not layer.trainable]
    notes = []
    if frozen:
        are = "is" if len(frozen) == 1 else "are"
        more = " …" if len(frozen) > SHOWN else ""
        notes.append(f"{numbered(len(frozen), 'layer')} {are} not trainable: {', '.join(frozen[:SHOWN])}{more}")
    kinds = Counter(wrappers_in(model).values())
    notes += [f"{kinds[kind]} layers {text}" for kind, text in WRAPPERS.items() if kinds[kind]]
    if split_off:
        names = ", ".join(f"{front['layer']} ({front['class']})" for front in split_off)
        notes.append(f"{names} was split off the front: the data has to be preprocessed so instead")
    return tuple(notes)
