"""Handle recurrent layers: their units are channels that the layer makes, and reads again at the next step.

The kernels of LSTM and GRU hold one block of columns per gate, so a unit is at the same place in each block.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stages.keras.channels.labels import Call, CannotFollowError, Flow, Held, Ids, Labels, Path, Role
from stages.keras.channels.rules.activations import check_elementwise
from stages.keras.channels.rules.table import kind_of_class, rule
from stages.keras.types import KerasLayer

GATES = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}


@rule("SimpleRNN", "GRU", "LSTM")
def recurrent(call: Call) -> Flow:
    """Make units, as sequence, last output and states alike; an initial state given by tensors is coupled to them."""
    layer = call.layer
    if layer.stateful or layer.time_major or getattr(layer, "_num_constants", 0):
        raise CannotFollowError("keeps states between batches, has time first, or takes constants")
    made = call.make(layer.units)
    _check_activations(layer, made)
    for index in range(1, len(call.inputs)):
        call.ledger.couple(made, call.read(1, index))
    outputs = tuple(Labels(len(shape) - 1, made) for shape in call.output_shapes)
    return Flow(outputs, _weights(layer, call.read(2), made, "cell."), {("units",): made})


@rule("Bidirectional")
def bidirectional(call: Call) -> Flow:
    """Join two of them by `merge_mode`. One setting counts the units of both, so unit i goes in both or none.

    If the directions were configured separately they keep all units.
    """
    wrapper, forward, backward = call.layer, call.layer.forward_layer, call.layer.backward_layer
    kinds = {kind_of_class(type(layer)) for layer in (forward, backward)}
    if not kinds <= set(GATES) or forward.stateful or forward.return_state or len(call.inputs) > 1:
        raise CannotFollowError("two directions of another kind, or with states from outside or for the next batch")
    read, made = call.read(2), call.make(forward.units)
    for layer in (forward, backward):
        _check_activations(layer, made)
    twin = made if backward.units == forward.units else call.make(backward.units)
    # tf_keras sets this attribute only if a backward layer was given (`rnn/bidirectional.py`).
    if hasattr(wrapper, "_backward_layer_config"):
        call.freeze(np.concatenate([made, twin]), "directions that were configured apart")
    weights = {
        **_weights(forward, read, made, "forward_layer.cell."),
        **_weights(backward, read, twin, "backward_layer.cell."),
    }
    axis = len(call.output_shapes[0]) - 1
    joined = np.concatenate([made, twin]) if wrapper.merge_mode == "concat" else made
    outputs = tuple(Labels(axis, ids) for ids in ((made, twin) if wrapper.merge_mode is None else (joined,)))
    sizes: dict[Path, Ids] = {} if hasattr(wrapper, "_backward_layer_config") else {("layer", "config", "units"): made}
    return Flow(outputs, weights, sizes)


def _check_activations(layer: KerasLayer, made: Ids) -> None:
    for name in ("activation", "recurrent_activation"):
        check_elementwise(getattr(layer, name, None), Labels(1, made), 2)


def _weights(layer: KerasLayer, read: Ids, made: Ids, prefix: str) -> Mapping[str, Mapping[int, Held]]:
    columns = Held(np.tile(made, GATES[kind_of_class(type(layer))]), Role.PRODUCER)
    bias_axis = 1 if getattr(layer, "reset_after", False) else 0  # a GRU's second row is the recurrent bias
    return {
        f"{prefix}kernel": {0: Held(read, Role.CONSUMER), 1: columns},
        f"{prefix}recurrent_kernel": {0: Held(made, Role.CONSUMER), 1: columns},
        f"{prefix}bias": {bias_axis: columns},
    }
