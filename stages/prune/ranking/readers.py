"""Collect from samples what the readers of channels see, and how much the loss depends on each of their outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from pipeline.errors import ModelError
from stages.keras.channels.groups import ChannelGroup
from stages.keras.channels.labels import Ids
from stages.keras.closing import before_squashing
from stages.keras.regression.linear_layers import LinearLayer, is_linear, spatial_sizes
from stages.keras.regression.normal_equations import Array, Moments
from stages.keras.regression.running import Network
from stages.keras.regression.targets import Positions
from stages.keras.regression.windows import Places, channels_last
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasLayer, KerasModel, TfTensor
from stages.prune.ranking.criterion import Question
from stages.samples.batches import Progress

POSITIONS = 32  # of each feature map
BATCH = 8  # samples: all activations of the network are kept for their gradients
BATCH_WITHOUT_GRADIENTS = 32
PIECE = 4096  # most inputs of one covariance; a reader with more is seen in pieces, as if they were not correlated


@dataclass(slots=True)
class Piece:
    """Hold the moments of some inputs of a reader, the rows `inputs` of its matrices: all of each channel's."""

    inputs: Ids
    moments: Moments


@dataclass(slots=True)
class Seen:
    """Hold what a reader sees, and `energy` (G·O): the mean over samples of the squared gradient at its outputs.

    The gradient is that before the layer's own activation, summed over positions.
    """

    linear: LinearLayer
    pieces: list[Piece]
    energy: Array


def has_linear_reader(model: KerasModel, group: ChannelGroup) -> bool:
    """Return whether a layer reads the group's channels that is linear in its kernel: only those are looked at."""
    return any(is_linear(model.get_layer(slot.layer)) for slot in group.consumers)


def readers_of(model: KerasModel, groups: Sequence[ChannelGroup]) -> dict[str, Ids]:
    """Return the linear layers that read channels of `groups`, with the channel of each row of their matrices."""
    found: dict[str, Ids] = {}
    for group in groups:
        for slot in group.consumers:
            layer = model.get_layer(slot.layer)
            if slot.layer in found or not is_linear(layer):
                continue
            _, unknowns, _ = LinearLayer(layer).shape
            found[slot.layer] = np.tile(slot.channels, unknowns // slot.channels.size)
    return found


def pieces_of(channel_of_row: Ids) -> list[Ids]:
    """Return the rows of each piece of a reader."""
    channels = np.unique(channel_of_row)
    parts = np.array_split(channels, min(channels.size, -(-channel_of_row.size // PIECE)))
    return [np.flatnonzero(np.isin(channel_of_row, part)) for part in parts]


def seen_by(question: Question, readers: Mapping[str, Ids], heard: Progress) -> dict[str, Seen]:
    """Return what each of `readers` sees in the question's samples.

    The loss is half the squared difference from the network's own outputs, before a closing softmax or sigmoid: no
    labels are needed. The divergence of what a softmax makes of them is hardly seen where a network is sure of itself.
    Gradients are those of the outputs with random signs (Hutchinson).
    Raises ModelError naming a layer that sees values, or has gradients, that are not finite.
    """
    model, seen = question.model, {name: _unseen(question.model, name, rows) for name, rows in readers.items()}
    count, rng = len(question.samples), np.random.default_rng(question.seed)
    with before_squashing(model) as open_ended:
        network = Network.of(open_ended)
        for batch, (inputs, _) in enumerate(question.samples.batches(BATCH)):
            _see(network, seen, inputs, batch, rng)
            heard(min(count, (batch + 1) * BATCH), count)
    for name, each in seen.items():
        each.energy /= count
        _require_finite(name, each)
    return seen


def inputs_seen_by(question: Question, readers: Mapping[str, Ids], heard: Progress) -> dict[str, list[Piece]]:
    """Return the inputs that each of `readers` sees, as `seen_by` does, without asking what depends on its outputs.

    Raises ModelError naming a layer that sees values that are not finite.
    """
    model, seen = question.model, {name: _unseen(question.model, name, rows) for name, rows in readers.items()}
    network, count, done = Network.of(model), len(question.samples), 0
    for batch, (inputs, _) in enumerate(question.samples.batches(BATCH_WITHOUT_GRADIENTS)):

        def hear(place: int, given: TfTensor, made: TfTensor, batch: int = batch) -> None:
            each = seen.get(network.calls[place].layer)
            if each is not None:
                _add_inputs(each, np.asarray(given), tuple(made.shape), network.names[place], batch)

        network.run(range(len(network.calls)), network.start(inputs), hear=hear)
        done += len(inputs[0])
        heard(done, count)
    for name, each in seen.items():
        _require_finite(name, each)
    return {name: each.pieces for name, each in seen.items()}


def _unseen(model: KerasModel, name: str, rows: Ids) -> Seen:
    linear = LinearLayer(model.get_layer(name))
    groups, _, outputs = linear.shape
    pieces = [Piece(inputs, Moments(groups, inputs.size, 0)) for inputs in pieces_of(rows)]
    return Seen(linear, pieces, np.zeros(groups * outputs))


def _require_finite(name: str, seen: Seen) -> None:
    sums = [seen.energy, *(np.einsum("guu->gu", piece.moments.gram) for piece in seen.pieces)]
    if not all(np.isfinite(values).all() for values in sums):
        raise ModelError(
            "sees values, or has gradients, that are not finite",
            where=name,
            hint="look at the data and at the model's weights: something overflows",
        )


def _see(
    network: Network,
    seen: Mapping[str, Seen],
    inputs: Sequence[Any],
    batch: int,
    rng: np.random.Generator,
) -> None:
    """Run a batch, and add what it shows to `seen`."""
    tf, calls = import_tensorflow(), list[tuple[str, str, TfTensor, TfTensor]]()
    tensors = dict(zip(network.given, map(tf.convert_to_tensor, inputs), strict=True))
    ends = [str(id(tensor)) for tensor in network.model.outputs]
    names = network.names
    with (
        tf.GradientTape(watch_accessed_variables=False) as tape,
        _before_activations([each.linear.layer for each in seen.values()], tape.watch) as before,
    ):

        def hear(place: int, given: TfTensor, _: TfTensor) -> None:
            layer = network.calls[place].layer
            if layer in seen:
                calls.append((layer, names[place], given, before[layer]))

        network.run(range(len(network.calls)), tensors, ends, hear)
        ended = [tf.cast(tensors[key], tf.float32) for key in ends]
        objective = tf.add_n([tf.reduce_sum(output * rng.choice([-1.0, 1.0], output.shape)) for output in ended])
    none = tf.UnconnectedGradients.ZERO
    gradients = tape.gradient(objective, [made for *_, made in calls], unconnected_gradients=none)
    for (layer, name, given, _), gradient in zip(calls, gradients, strict=True):
        _add(seen[layer], np.asarray(given), np.asarray(gradient), name, batch)


@contextmanager
def _before_activations(
    layers: Sequence[KerasLayer], watch: Callable[[TfTensor], None]
) -> Iterator[Mapping[str, TfTensor]]:
    """Yield a map from a layer to its last output before its own activation; `watch` gets each as it is made."""
    before: dict[str, TfTensor] = {}

    def watched(name: str, activation: Callable[[TfTensor], TfTensor]) -> Callable[[TfTensor], TfTensor]:
        def activated(made: TfTensor) -> TfTensor:
            watch(made)
            before[name] = made
            return activation(made)

        return activated

    own = {layer.name: layer.__dict__["activation"] for layer in layers}
    try:
        for layer in layers:
            # Past Keras' own `__setattr__`, which would move the weights of an activation that is a layer.
            layer.__dict__["activation"] = watched(layer.name, own[layer.name])
        yield before
    finally:
        for layer in layers:
            layer.__dict__["activation"] = own[layer.name]


def _add(seen: Seen, given: Any, gradient: Any, call: str, batch: int) -> None:
    """Add to `seen` a call that was given these inputs, and has this gradient at its outputs."""
    picks = _add_inputs(seen, given, gradient.shape, call, batch)
    slopes = _at(channels_last(seen.linear.layer, gradient), picks)
    spatial = spatial_sizes(seen.linear.layer, gradient.shape)
    seen.energy += np.square(slopes).sum(axis=0) * (prod(spatial) / picks.shape[1])


def _add_inputs(seen: Seen, given: Any, outputs: tuple[int, ...], call: str, batch: int) -> Places:
    """Add to `seen` a call that was given these inputs and makes outputs of this shape; return the positions drawn."""
    picks = Positions(POSITIONS, 0).of(call, batch, len(given), spatial_sizes(seen.linear.layer, outputs))
    rows = seen.linear.rows(given, outputs, picks)
    for piece in seen.pieces:
        piece.moments.add(rows[:, :, piece.inputs], np.empty((*rows.shape[:2], 0)))
    return picks


def _at(values: Any, picks: Places) -> Array:
    """Return (N·P, O): the values (N, *spatial, O) at flat positions (N, P)."""
    flat = values.reshape(len(values), -1, values.shape[-1]).astype(np.float64)
    return np.asarray(flat[np.arange(len(flat))[:, None], picks].reshape(-1, flat.shape[-1]))
