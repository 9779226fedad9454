"""Reset recurrent layers that were built to keep their state from one call to the next (`stateful=True`).

Persistent state belongs to the caller who feeds a network sample after sample: everything here runs a model more than
once (fingerprints, checks, measurements), and a converter freezes whatever state it finds into its file.
"""

from __future__ import annotations

from pipeline.errors import first_few
from stages.keras.types import KerasLayer, KerasModel


def without_state(model: KerasModel) -> list[str]:
    """Let each layer of a model (of either Keras) begin calls with zeros; returns the names of those that did not."""
    kept = []
    for layer in model._flatten_layers():  # noqa: SLF001 - itself and all inside, nested ones too
        if _is_recurrent(layer) and layer.stateful:
            layer.stateful = False
            kept.append(layer.name)
            if hasattr(layer, "layer"):  # what Bidirectional was given, and writes into its configuration
                layer.layer.stateful = False
    return kept


def note_on_states(names: list[str]) -> tuple[str, ...]:
    """Return a sentence on layers that `without_state` changed."""
    if not names:
        return ()
    what = "keeps its state" if len(names) == 1 else "keep their state"
    note = (
        f"{first_few(names)} {what} between calls in Keras (stateful=True): here, and in the files, each call begins "
        "with zeros; to go on from a state, make it an input and an output of the model"
    )
    return (note,)


def _is_recurrent(layer: KerasLayer) -> bool:
    """Return whether the flag is about a recurrent state: models and metrics have a property of that name too."""
    return hasattr(layer, "cell") or hasattr(layer, "forward_layer")
