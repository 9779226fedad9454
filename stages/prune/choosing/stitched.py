"""Give a network the layers that reading fewer channels leaves, each re-fitted alone: in closed form, without surgery.

What a layer sees is summed up in the covariance of its inputs, and so is how it would best do without some of them. So
one look at the samples gives the network for any channels that go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.keras.channels.groups import Slot
from stages.keras.channels.labels import Ids, Keep
from stages.keras.normal_form import copy_model
from stages.keras.regression.linear_layers import LinearLayer, Matrices
from stages.keras.regression.normal_equations import Array, add_ridge
from stages.keras.regression.offsets import Offset, offset_of
from stages.keras.regression.running import Network
from stages.keras.types import KerasModel, TfVariable
from stages.prune.ranking.criterion import Question
from stages.prune.ranking.readers import Piece, inputs_seen_by, readers_of
from stages.prune.ranking.removal import RIDGE, heard_in_pass, passes_of


@dataclass(frozen=True, slots=True)
class Inputs:
    """Hold some inputs of a reader: its rows `places`, their means (G, U), and on disk their covariance (G, U, U)."""

    places: Ids
    means: Array
    covariance: Path


@dataclass(slots=True)
class FittedReader:
    """Hold a linear layer of the stitched network, with what it is in the source, and what it sees there."""

    linear: LinearLayer
    channel_of: Ids  # of each row of its matrices
    inputs: Sequence[Inputs]
    offset: Offset | None
    matrices: Matrices = field(init=False)
    level: NDArray[Any] | None = field(init=False)  # what the offset is added to
    staying: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.matrices = self.linear.matrices
        self.level = None if self.offset is None else self.offset.variable.numpy()
        self.staying = np.ones(self.channel_of.size, bool)

    def put(self, keep: Keep) -> None:
        """Give the layer the weights for these channels, and the offset; nothing happens if it has them already."""
        staying = keep[self.channel_of]
        if (staying == self.staying).all():
            return
        matrices, missing = self.matrices.copy(), np.zeros((self.matrices.shape[0], self.matrices.shape[2]))
        for inputs in self.inputs:
            change = self._change(inputs, staying[inputs.places])
            matrices[:, inputs.places] += change
            missing -= np.einsum("gu,guo->go", inputs.means, change)
        for variable, value in self.linear.written(matrices):
            variable.assign(value)
        if self.offset is not None:
            self.offset.variable.assign(self.level)
            self.offset.add(missing.reshape(-1))
        self.staying = staying

    def _change(self, inputs: Inputs, staying: NDArray[np.bool_]) -> Matrices:
        """Return what is added to these rows: the negative of those that go; to others what makes up for it best."""
        weights = self.matrices[:, inputs.places]
        change, stay, go = np.zeros_like(weights), np.flatnonzero(staying), np.flatnonzero(~staying)
        change[:, go] = -weights[:, go]
        if not (stay.size and go.size):
            return change
        moments = np.load(inputs.covariance, mmap_mode="r", allow_pickle=False)
        own, across = (moments[:, stay][:, :, other].astype(np.float64) for other in (stay, go))
        if self.offset is None:  # without a constant to add, means count as well
            mean, gone = inputs.means[:, stay], inputs.means[:, go]
            own += mean[:, :, None] * mean[:, None]
            across += mean[:, :, None] * gone[:, None]
        add_ridge(own, RIDGE)
        with np.errstate(invalid="ignore", over="ignore"):
            change[:, stay] = np.linalg.solve(own, across @ weights[:, go])
        return change


@dataclass(frozen=True, slots=True)
class MaskedReader:
    """Hold a weight of the stitched network by which a layer that is not linear reads channels."""

    variable: TfVariable
    value: NDArray[Any]
    slot: Slot

    @classmethod
    def of(cls, model: KerasModel, slot: Slot) -> MaskedReader:
        variable = slot.variable(model.get_layer(slot.layer))
        return cls(variable, variable.numpy(), slot)

    def put(self, keep: Keep) -> None:
        value = self.value.copy()
        value[(slice(None),) * self.slot.axis + (~keep[self.slot.channels],)] = 0
        self.variable.assign(value)


@dataclass(frozen=True, slots=True)
class Stitched:
    """Hold a copy of a network of which any channels can go, again and again."""

    model: KerasModel
    parts: Sequence[FittedReader | MaskedReader]

    @classmethod
    def of(cls, question: Question, folder: Path) -> Stitched:
        """Look at the question's samples; what readers see is kept in `folder`, as float32.

        Raises ModelError naming a layer that sees values that are not finite.
        """
        model = copy_model(question.model)
        network, readers = Network.of(model), dict[str, FittedReader]()
        passes = passes_of(question.model, question.groups)
        for number, groups in enumerate(passes):
            rows = {name: rows for name, rows in readers_of(question.model, groups).items() if name not in readers}
            seen = inputs_seen_by(question, rows, partial(heard_in_pass, question, number, len(passes)))
            for name, pieces in seen.items():
                linear = LinearLayer(model.get_layer(name))
                inputs = _on_disk(pieces, folder / f"{len(readers)}")
                readers[name] = FittedReader(linear, rows[name], inputs, offset_of(network, linear.layer))
        slots = dict.fromkeys(slot for group in question.groups for slot in group.consumers)
        masked = [MaskedReader.of(model, slot) for slot in slots if slot.layer not in readers]
        return cls(model, (*readers.values(), *masked))

    def keep(self, keep: Keep) -> None:
        """Let no layer of `model` read a channel that `keep` does not mark, and re-fit those that did."""
        for part in self.parts:
            part.put(keep)


def _on_disk(pieces: Sequence[Piece], folder: Path) -> list[Inputs]:
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, piece in enumerate(pieces):
        path = folder / f"{number}.npy"
        with np.errstate(over="ignore"):  # an error that is not finite counts as the greatest
            np.save(path, piece.moments.covariances()[0].astype(np.float32))
        found.append(Inputs(piece.inputs, piece.moments.row_means, path))
    return found
