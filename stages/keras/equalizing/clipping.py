"""Open activations that clip at a fixed number, where no sample reaches it: clipping fixes the scale of channels."""

from __future__ import annotations

from collections.abc import Mapping

from stages.keras.equalizing.draft import Draft
from stages.keras.equalizing.statistics import Statistics
from stages.keras.layer_kinds import kind_of
from stages.keras.layer_work import of_keras
from stages.keras.regression.running import Network
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasLayer

MARGIN = 1.5  # between what samples reach and the limit: they are few


def clips_at(layer: KerasLayer) -> float | None:
    """Return the number at which a ReLU of Keras' own clips; None for other layers."""
    if not of_keras(layer):
        return None
    if type(layer).__name__ == "ReLU":
        return None if layer.max_value is None or layer.threshold else float(layer.max_value)
    last = type(layer).__name__ == "Activation" or kind_of(layer).absorbs  # not the inner one of a recurrent layer
    return 6.0 if last and layer.activation is import_tensorflow().nn.relu6 else None


def open_activations(
    network: Network, draft: Draft, measured: Mapping[str, Statistics], kept: frozenset[str]
) -> list[str]:
    """Change the draft where no measured output comes near the limit; return a note for each layer."""
    highest: dict[str, float] = {}
    for call, node in zip(network.calls, network.nodes, strict=True):
        if clips_at(node.layer) is not None and node.layer.name not in kept:
            found = measured.get(call.makes[0])
            highest[call.layer] = max(highest.get(call.layer, 0.0), found.high.max() if found else float("inf"))
    notes = []
    for name, high in highest.items():
        layer = network.model.get_layer(name)
        limit = clips_at(layer)
        if limit is not None and MARGIN * high < limit:
            draft.settings[name] = {"max_value": None} if type(layer).__name__ == "ReLU" else {"activation": "relu"}
            notes.append(f"{name}: no sample comes near {limit:g}, so it clips nothing any more")
    return notes
