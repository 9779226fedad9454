"""Move what all samples of a channel have in common into biases (high bias absorption, Nagel et al. 2019).

Behind a convolution without an activation that is the middle of the channel's range: exact for any input. Behind a ReLU
it is the smallest value less the width of the channel's range, if that is above zero: exact for all inputs that come no
lower, which none of the samples comes near.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from stages.keras.equalizing.draft import Array, Draft, has_channels
from stages.keras.equalizing.offsets import followed
from stages.keras.equalizing.passing import activation_of, is_linear
from stages.keras.equalizing.statistics import Statistics
from stages.keras.regression.running import Network

WORTH = 0.9  # of the range's width: what narrows it less is left as it is
MARGIN = 1.0  # of a channel's range: behind a ReLU, so far below its smallest value
CONSTANT = 1e-3  # of a channel's value: samples in which it varies less tell nothing of others


def absorb_offsets(
    network: Network, draft: Draft, measured: Mapping[str, Statistics], kept: frozenset[str]
) -> list[str]:
    """Change the draft where a tensor's range becomes narrower, and that of none behind it wider; a note each.

    `measured` are statistics of the tensors by key, of the network as drafted; they change too.
    """
    notes = []
    for maker, key, rectified in _starts(network, kept):
        offset = _common(measured[key], rectified=rectified) if key in measured else None
        if offset is None or not offset.any():
            continue
        found = followed(network, key, np.ones_like(offset), offset, kept)
        if found is None or not found.changes or not found.moved.keys() <= measured.keys():
            continue
        before = {each: measured[each].width() for each in found.moved}
        after = {each: measured[each].width(offset=moved) for each, moved in found.moved.items()}
        if after[key] > WORTH * before[key] or any(after[each] > before[each] for each in before):
            continue
        draft.of(maker).shift_outputs(-offset)
        for change in found.changes:
            draft.of(change.layer).shift_inputs(change.offset)
        for each, moved in found.moved.items():
            measured[each].shift(-moved)
        share = after[key] / before[key]
        text = "what its channels have in common goes into the biases that read them, their range is"
        notes.append(f"{maker}: {text} {share:.2f} of what it was")
    return notes


def tensors_moved(network: Network, kept: frozenset[str]) -> set[str]:
    """Return the keys of the tensors that offsets can move: `absorb_offsets` reads the statistics of these alone."""
    moved = set[str]()
    for maker, key, _ in _starts(network, kept):
        some = np.ones(network.model.get_layer(maker).output_shape[-1])
        found = followed(network, key, some, some, kept)
        moved |= found.moved.keys() if found is not None and found.changes else set()
    return moved


def _common(seen: Statistics, *, rectified: bool) -> Array:
    if rectified:
        width = seen.high - seen.low
        return np.where(width > CONSTANT * seen.high, np.maximum(seen.low - MARGIN * width, 0), 0)
    return (seen.low + seen.high) / 2


def _starts(network: Network, kept: frozenset[str]) -> Iterator[tuple[str, str, bool]]:
    """Yield layers with a kernel, the tensor that they make, and whether that is behind a ReLU."""
    calls = Counter(call.layer for call in network.calls)
    readers: dict[str, list[int]] = {}
    for place, call in enumerate(network.calls):
        for key in call.reads:
            readers.setdefault(key, []).append(place)
    for call, node in zip(network.calls, network.nodes, strict=True):
        if calls[call.layer] > 1 or call.layer in kept or not has_channels(node.layer):
            continue
        if activation_of(node.layer) not in ("linear", "relu"):
            continue
        key, rectified = call.makes[0], activation_of(node.layer) == "relu"
        while len(readers.get(key, [])) == 1:
            (place,) = readers[key]
            after = network.nodes[place].layer
            is_relu = type(after).__name__ == "ReLU" and not after.negative_slope and after.max_value is None
            is_relu |= type(after).__name__ == "Activation" and activation_of(after) == "relu"
            is_identity = type(after).__name__ == "Activation" and is_linear(after)
            if not (is_relu or is_identity):
                break
            key, rectified = network.calls[place].makes[0], rectified or is_relu
        yield call.layer, key, rectified
