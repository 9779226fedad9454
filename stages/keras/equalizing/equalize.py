"""Equalize a network for calibrated schemes, step by step, each proved by equal outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from stages.keras.closing import before_squashing
from stages.keras.equalizing.absorbing import absorb_offsets
from stages.keras.equalizing.channels import Channels, is_normalization
from stages.keras.equalizing.clipping import clips_at, open_activations
from stages.keras.equalizing.cross_layer import apply_factors, choose_factors
from stages.keras.equalizing.draft import Draft, has_channels, identity
from stages.keras.equalizing.normalizations import settle_normalizations
from stages.keras.equalizing.statistics import statistics_of
from stages.keras.flatten import flattened
from stages.keras.normal_form import as_list, relative_difference
from stages.keras.regression.running import Network
from stages.keras.stripping.folding import find_folds, scale_and_offset
from stages.keras.stripping.usage import usage_of
from stages.keras.types import KerasModel

TOLERANCE = 1e-4  # of outputs, relative: the same function, with factors in other places
MOST_SAMPLES = 512  # on which channels are measured; the first batch of them is compared
BATCH_SAMPLES, BATCH_NUMBERS = 32, 2**20  # in a batch, at most, and numbers of its inputs


@dataclass(frozen=True, slots=True)
class Equalized:
    """Hold a model that computes the same, what was done to it, and what could not be proved and was left out.

    `difference` is how far its outputs are from the model's on samples, relative; 0 if it is the model itself.
    """

    model: KerasModel
    notes: tuple[str, ...]
    left_out: tuple[str, ...]
    difference: float


def equalized(model: KerasModel, samples: Sequence[NDArray[Any]], kept: Sequence[str] = ()) -> Equalized:
    """Return the model as it should be quantized; `samples` (N, …) for each input, `kept` the layers to leave alone.

    It has no model nested in it if anything was done.
    """
    flat = flattened(model)
    run = _Run(frozenset(kept), [array[:MOST_SAMPLES] for array in samples], flat.inputs[0].shape[0])
    folded, _ = run.proved(flat, _Run.fold)
    now, notes = folded, list[str]()
    for step in (_Run.open, _Run.settle, _Run.equalize):
        now, done = run.proved(now, step)
        notes += done
    if now is folded:  # converters fold by themselves
        return Equalized(model, (), tuple(run.left_out), 0.0)
    return Equalized(now, tuple(notes), tuple(run.left_out), run.difference)


Step = Callable[["_Run", KerasModel], tuple[Draft, list[str]]]


class _Run:
    """Hold what all steps need: the layers that stay, samples in batches, and what could not be proved."""

    def __init__(self, kept: frozenset[str], samples: Sequence[NDArray[Any]], batch: int | None) -> None:
        self._kept, self._samples, self._fixed = kept, samples, batch
        numbers = sum(array[:1].size for array in samples)
        self._batch = batch or max(1, min(BATCH_SAMPLES, BATCH_NUMBERS // numbers))
        self.left_out: list[str] = []
        self.difference = 0.0
        self._wanted: list[Any] | None = None  # the outputs of the model that came first

    def proved(self, model: KerasModel, step: Step) -> tuple[KerasModel, list[str]]:
        """Return the model after a step and what was done; the model itself if its outputs would change."""
        draft, notes = step(self, model)
        if not notes:
            return model, []
        changed = draft.built()
        if self._wanted is None:
            self._wanted = self._outputs(model)
        difference = relative_difference(self._wanted, self._outputs(changed))
        if not difference <= TOLERANCE:  # NaN is not
            more = f" (and {len(notes) - 1} more)" if len(notes) > 1 else ""
            self.left_out.append(f"{notes[0]}{more}: outputs would change by {difference:.1e}")
            return model, []
        self.difference = difference
        return changed, notes

    def fold(self, model: KerasModel) -> tuple[Draft, list[str]]:
        draft, notes = Draft(model), []
        for fold in find_folds(usage_of(model))[0]:
            if has_channels(fold.producer) and not {fold.norm.name, fold.producer.name} & self._kept:
                scale, offset = scale_and_offset(fold.norm)
                kernels = draft.of(fold.producer.name)
                kernels.scale_outputs(scale)
                kernels.shift_outputs(offset)
                draft.replaced[fold.norm.name] = identity(fold.norm)
                notes.append(str(fold))
        return draft, notes

    def open(self, model: KerasModel) -> tuple[Draft, list[str]]:
        network, draft = Network.of(model), Draft(model)
        nodes = zip(network.calls, network.nodes, strict=True)
        keys = {call.makes[0] for call, node in nodes if clips_at(node.layer) is not None}
        measured = statistics_of(network, self._batches(), keys) if keys else {}
        return draft, open_activations(network, draft, measured, self._kept)

    def settle(self, model: KerasModel) -> tuple[Draft, list[str]]:
        draft = Draft(model)
        with_their_layers = {fold.norm.name for fold in find_folds(usage_of(model))[0]}  # converters fold these
        return draft, settle_normalizations(Network.of(model), draft, self._kept | with_their_layers)

    def equalize(self, model: KerasModel) -> tuple[Draft, list[str]]:
        network, draft = Network.of(model), Draft(model)
        kept = self._kept | {node.layer.name for node in network.nodes if is_normalization(node)}
        channels = Channels.of(network, kept)
        measured = statistics_of(network, self._batches())
        factors = choose_factors(network, channels, draft, measured)
        notes = apply_factors(channels, draft, factors)
        for key, own in factors.items():
            if key in measured:
                measured[key].scale(1 / own)
        return draft, notes + absorb_offsets(network, draft, measured, kept)

    def _batches(self) -> Iterator[list[NDArray[Any]]]:
        count = len(self._samples[0])
        for start in range(0, count, self._batch):
            places = range(start, start + self._batch)
            # The last sample fills up a batch of fixed size.
            picked = [min(place, count - 1) for place in places if self._fixed or place < count]
            yield [samples[picked] for samples in self._samples]

    def _outputs(self, model: KerasModel) -> list[Any]:
        inputs = next(self._batches())
        with before_squashing(model) as linear:
            return as_list(linear(inputs if len(inputs) > 1 else inputs[0], training=False))
