"""Equalize the model of an action, and store it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.contracts.stage import StageContext
from pipeline.records.artifacts import FileRef
from stages.keras.normal_form import MODEL_FILE
from stages.quantize.calibration import digest_of

if TYPE_CHECKING:
    from stages.keras.equalizing.equalize import Equalized


@dataclass(frozen=True, slots=True)
class Stored:
    """Hold the file of an equalized model, what was done to it, and how far its outputs are from the model's."""

    file: FileRef
    notes: tuple[str, ...]
    difference: float


class LastEqualized:
    """Hold what a run equalized last, for the schemes of one model: by the model, the samples and the layers kept."""

    def __init__(self) -> None:
        self.key: tuple[object, ...] = ()
        self.made: Equalized | None = None


def equalized_model(context: StageContext[Any], arrays: Sequence[Any], kept: Sequence[str]) -> Stored | None:
    """Return the model of the action as it should be quantized; None if it is to stay as it is.

    `arrays` are the calibration samples by input, `kept` the layers that stay in float.
    """
    from stages.keras.equalizing.equalize import equalized
    from stages.keras.graph import is_nested
    from stages.keras.precision import shared_in_float32
    from stages.keras.stored import write_new
    from stages.keras.tensorflow import tensorflow_action

    with tensorflow_action(context.seed, context.threads):
        model = shared_in_float32(context, "model")
        has_graph = getattr(model, "_is_graph_network", False)
        # Layers inside of nested models can have other names in the network without nesting.
        if not has_graph:
            return None
        if kept and any(is_nested(layer) for layer in model.layers):
            context.events.warned("not equalized: keep_float names layers of a model with others nested in it")
            return None
        made_of = (context.inputs["model"].file(MODEL_FILE).digest, digest_of(arrays))
        last, key = context.shared.of(LastEqualized), (*made_of, *kept)
        if last.made is None or last.key != key:
            last.key, last.made = key, equalized(model, arrays, kept)
        made = last.made
        for note in made.left_out:
            context.events.warned(f"not equalized: {note}")
        return Stored(write_new(context, made.model), made.notes, made.difference) if made.notes else None
