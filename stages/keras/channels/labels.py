"""Define the terms of layer rules: which channels a tensor carries, and what a layer does with them.

Every channel that a layer makes gets a new id. A tensor's channel axis is an array of ids, one per index; layers pass
ids on, repeat, tile and join them. Two ids that meet in one index are coupled: they stay or go together. So the
coupling of a network is found index by index, and a rule needs to know only its own layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Keep = NDArray[np.bool_]  # for each channel of a network, whether it stays
Shape = tuple[int | None, ...]
# From a layer's configuration to an entry in it, by keys and indices. A path that starts with 0 or 1 leads into the
# arguments of the layer's calls, (args, kwargs).
Path = tuple[str | int, ...]


class Role(StrEnum):
    """Say what a weight does with the channels along one of its axes."""

    PRODUCER = "producer"  # makes them
    CONSUMER = "consumer"  # sums over them: zeros here are what "removed" means
    PASS_THROUGH = "pass-through"  # noqa: S105 - scales or shifts each one alone; no password


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Hold the channels of a tensor: index i along `axis` (the batch is axis 0) holds channel `ids[i]`."""

    axis: int
    ids: Ids


@dataclass(frozen=True, slots=True, eq=False)
class Fixed:
    """Mark a tensor from which nothing can be removed: because of `layer`, for `reason`."""

    layer: str
    reason: str


Carried = Labels | Fixed


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Hold the channels along one axis of a weight."""

    ids: Ids
    role: Role


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """Hold an array, or a list of numbers, with a value for each of these channels along one axis."""

    ids: Ids
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Flow:
    """Describe what a layer does with channels in one call.

    `weights` maps each weight that carries channels, by its attribute (`kernel`, or `cell.kernel` inside a layer of
    this one), to its channels by axis. `sizes` names the entries of the layer's configuration or arguments that count
    channels, `constants` those that hold a value for each one, and which they are.
    """

    outputs: tuple[Carried, ...]
    weights: Mapping[str, Mapping[int, Held]] = field(default_factory=dict)
    sizes: Mapping[Path, Ids] = field(default_factory=dict)
    constants: Mapping[Path, Constant] = field(default_factory=dict)


class CannotFollowError(Exception):
    """Raised if a rule can't say where channels go in this call; the layer's inputs are frozen for this reason."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """Say why channels can't go: the layer that holds them, and what it does."""

    layer: str
    reason: str

    def __str__(self) -> str:
        return f"{self.layer}: {self.reason}"


@dataclass(slots=True)
class Ledger:
    """Record what is known during a walk over a network: who made each id, which ids are coupled, which are frozen."""

    count: int = 0
    makers: list[tuple[str, int]] = field(default_factory=list)
    couplings: list[tuple[Ids, Ids]] = field(default_factory=list)
    frozen: list[tuple[Ids, Freeze]] = field(default_factory=list)
    fixed_ids: dict[tuple[Fixed, int], Ids] = field(default_factory=dict)
    parts: list[Ids] = field(default_factory=list)  # parts cut out of a tensor: not all channels of one may go

    def make(self, layer: str, count: int) -> Ids:
        """Return `count` new ids, made by `layer`."""
        ids = np.arange(self.count, self.count + count, dtype=np.int64)
        self.count += count
        self.makers.append((layer, count))
        return ids

    def couple(self, left: Ids, right: Ids) -> None:
        """Couple `left[i]` and `right[i]`: they stay or go together from now on."""
        if left.shape != right.shape:
            raise CannotFollowError(f"couples {left.size} channels with {right.size}")
        self.couplings.append((left, right))

    def freeze(self, ids: Ids, why: Freeze) -> None:
        self.frozen.append((ids, why))

    def ids_of_fixed(self, fixed: Fixed, axis: int, size: int) -> Ids:
        """Return frozen ids for a tensor that has none, the same ones at each request."""
        if (fixed, axis) not in self.fixed_ids:
            ids = self.make(fixed.layer, size)
            self.freeze(ids, Freeze(fixed.layer, fixed.reason))
            self.fixed_ids[fixed, axis] = ids
        return self.fixed_ids[fixed, axis]


@dataclass(frozen=True, slots=True)
class Call:
    """Describe one call of a layer: inputs, shapes (batch first), `arguments` (args, kwargs) as they were given.

    `name` is the layer's in the network, even if `layer` is the one inside a wrapper.
    """

    name: str
    layer: Any
    inputs: tuple[Carried, ...]
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    arguments: tuple[Any, Any]
    ledger: Ledger

    @property
    def data_axis(self) -> int:
        """Return this layer's channel axis: axis 1 if it says so, else the last one."""
        first = getattr(self.layer, "data_format", None) == "channels_first"
        return 1 if first else len(self.input_shapes[0]) - 1

    def argument(self, place: int, name: str, default: Any = None) -> tuple[Path, Any]:
        """Return an argument of the call, by its place or its name, and the path to it."""
        args, kwargs = self.arguments
        return ((0, place), args[place]) if place < len(args) else ((1, name), kwargs.get(name, default))

    def only(self) -> Carried:
        """Return what the single input carries."""
        if len(self.inputs) != 1:
            raise CannotFollowError(f"is called on {len(self.inputs)} tensors")
        return self.inputs[0]

    def read(self, axis: int, index: int = 0) -> Ids:
        """Return the ids that an input carries along `axis`."""
        carried, shape = self.inputs[index], self.input_shapes[index]
        if isinstance(carried, Labels):
            if carried.axis != axis:
                raise CannotFollowError(f"works along axis {axis}, where channels are on axis {carried.axis}")
            return carried.ids
        size = shape[axis] if axis < len(shape) else None
        if size is None:
            raise CannotFollowError(f"reads axis {axis}, whose size is not known")
        return self.ledger.ids_of_fixed(carried, axis, size)

    def make(self, count: int) -> Ids:
        """Make new channels, this layer's own."""
        return self.ledger.make(self.name, count)

    def freeze(self, ids: Ids, reason: str) -> None:
        """Freeze these channels, because of what this layer does."""
        self.ledger.freeze(ids, Freeze(self.name, reason))

    def couple_blocks(self, ids: Ids, blocks: int) -> None:
        """Cut `ids` into `blocks` of equal size, and couple the ids at the same place in each."""
        rows = ids.reshape(blocks, -1)
        for row in rows[1:]:
            self.ledger.couple(rows[0], row)
