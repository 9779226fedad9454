"""Compute what layers of the source give, before their activations, at sampled positions: one pass, kept on disk.

A layer without an activation gives that itself. For others it is computed from their inputs, in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from stages.keras.regression.ahead import one_ahead
from stages.keras.regression.fronts import Tensors
from stages.keras.regression.linear_layers import Linear, LinearLayer, Matrices, Rows, outputs_of, spatial_sizes
from stages.keras.regression.running import Network
from stages.keras.regression.steps import GraphCall, front_of
from stages.keras.regression.windows import Floats, Places, channels_last
from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasLayer

ASKED_AT_ONCE = 4

Kept = Mapping[str, NDArray[np.int64]]  # by layer: which of the source's output channels are left; others: all
Read = Callable[[int], list[NDArray[Any]]]  # the network's inputs of a batch, by its number


@dataclass(frozen=True, slots=True)
class Positions:
    """Draw at most `count` positions of each feature map by seed; the same for every network of equal graph."""

    count: int
    seed: int

    def of(self, call: str, batch: int, samples: int, spatial: Sequence[int]) -> Places:
        """Return (samples, P) flat indices into the spatial axes of the output of `call`; all of a small map."""
        total = prod(spatial)
        if total <= self.count:
            return np.broadcast_to(np.arange(total), (samples, total))
        drawn = np.random.default_rng((self.seed, crc32(call.encode()), batch)).random((samples, total))
        return np.sort(np.argpartition(drawn, self.count, axis=1)[:, : self.count], axis=1)

    def rows(self, linear: Linear, inputs: Floats, call: str, batch: int) -> Rows:
        """Return (G, N·P, U) rows of a layer's inputs (N, …), at the positions drawn for this call and batch."""
        shape = tuple(linear.layer.compute_output_shape(inputs.shape))
        picks = self.of(call, batch, len(inputs), spatial_sizes(linear.layer, shape))
        return linear.rows(inputs, shape, picks)

    def outputs(self, layer: KerasLayer, made: Floats, call: str, batch: int) -> Floats:
        """Return (N·P, channels) of what a layer made (N, …), at the positions drawn for this call and batch."""
        spatial = spatial_sizes(layer, made.shape)
        picks = self.of(call, batch, len(made), spatial)
        by_place = channels_last(layer, made).reshape(len(made), prod(spatial), -1)
        return by_place[np.arange(len(made))[:, None], picks].reshape(picks.size, -1)


@dataclass(frozen=True, slots=True)
class SourceLayer:
    """Hold a layer of the source with its matrices and bias, and the output channels that are left; None for all.

    `direct` if its output is what is wanted: it has no activation, and is precise enough.
    """

    linear: LinearLayer
    matrices: Matrices
    offset: NDArray[np.float64]
    left: NDArray[np.int64] | None
    direct: bool

    @classmethod
    def of(cls, layer: KerasLayer, left: NDArray[np.int64] | None) -> SourceLayer:
        linear = LinearLayer(layer)
        matrices, offset = linear.matrices, linear.offset
        direct = layer.activation is import_keras().activations.linear and layer.compute_dtype in ("float32", "float64")
        if left is not None and len(matrices) == 1 and not direct:  # what goes need not be computed
            matrices, offset, left = matrices[:, :, left], offset[left], None
        return cls(linear, matrices, offset, left, direct)

    def key_in(self, call: GraphCall) -> str:
        """Return the key of the tensor that `outputs` takes, of those of a call of this layer."""
        return call.makes[0] if self.direct else call.reads[0]

    def outputs(self, tensor: Floats, call: str, batch: int, where: Positions) -> NDArray[np.float32]:
        """Return (n, channels left) before the activation, at positions drawn for this call and batch.

        Raises ModelError if they are not finite.
        """
        if self.direct:
            made = where.outputs(self.linear.layer, tensor, call, batch)
        else:
            made = outputs_of(where.rows(self.linear, tensor, call, batch), self.matrices, self.offset)
        made = made if self.left is None else made[:, self.left]
        if not np.isfinite(made).all():
            raise ModelError(
                "gives NaN or infinite values in the source on the samples",
                where=self.linear.layer.name,
                hint="look at the data and at the model's weights",
            )
        return made.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Targets:
    """Hold in `folder`, by the name of a call, the outputs (n, channels left) of each batch, as float32."""

    folder: Path

    def of(self, name: str, batch: int) -> NDArray[np.float64]:
        with np.load(self._path(batch), allow_pickle=False) as arrays:
            return np.asarray(arrays[_entry(name)], np.float64)

    def _path(self, batch: int) -> Path:
        return self.folder / f"targets-{batch}.npz"

    def compute(
        self,
        source: Network,
        layers: Mapping[str, SourceLayer],
        batches: int,
        read: Read,
        where: Positions,
        heard: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Run the source once on each batch; `layers` are those of it whose outputs are wanted, by name.

        Raises ModelError naming the first one whose outputs are not finite.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        parts = _parts_of(source, layers, batches)
        found = dict[str, NDArray[np.float32]]()
        for batch, part, tensors in one_ahead(_run(source, parts, batches, read)):
            for place in part.asked:
                layer, name = layers[source.calls[place].layer], source.names[place]
                tensor = np.asarray(tensors[layer.key_in(source.calls[place])])
                found[_entry(name)] = layer.outputs(tensor, name, batch, where)
            if part is parts[-1]:
                with self._path(batch).open("wb") as file:
                    np.savez(file, **found)  # type: ignore[arg-type]  # by keyword: not its `allow_pickle`
                heard(batch + 1)


@dataclass(frozen=True, slots=True)
class _Part:
    """Hold how some calls of a network run, from the tensors that the part before left, and those asked for."""

    run: Callable[[Tensors], Tensors]
    asked: Sequence[int]


def _parts_of(network: Network, layers: Mapping[str, SourceLayer], batches: int) -> list[_Part]:
    """Return the calls in parts, each with few of those asked for: a part holds the tensors of all of them at once."""
    asked = [place for place, call in enumerate(network.calls) if call.layer in layers]
    chunks = [asked[at : at + ASKED_AT_ONCE] for at in range(0, len(asked), ASKED_AT_ONCE)]
    parts, start = [], 0
    for chunk in chunks:
        stop = chunk[-1] + layers[network.calls[chunk[-1]].layer].direct  # else what it reads is enough
        front = front_of(network.calls, frozenset(range(stop)), network.given)
        asked_for = [layers[network.calls[place].layer].key_in(network.calls[place]) for place in chunk]
        kept = list(dict.fromkeys([*front, *asked_for]))
        parts.append(_Part(network.runner(range(start, stop), kept, batches), chunk))
        start = stop
    return parts


def _run(source: Network, parts: Sequence[_Part], batches: int, read: Read) -> Iterator[tuple[int, _Part, Tensors]]:
    """Yield for each batch and part the tensors that its asked calls read or make, and those of later parts."""
    for batch in range(batches):
        tensors = source.start(read(batch))
        for part in parts:
            tensors = part.run(tensors)
            yield batch, part, tensors


def _entry(call: str) -> str:
    """Return the name of a call's array in a file: a layer may be named like an argument of `np.savez`."""
    return f"of {call}"
