"""Equalize a network for calibrated schemes, step by step, each proved by equal outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from stages.keras.closing import before_squashing
from stages.keras.equalizing.absorbing import absorb_offsets, tensors_moved
from stages.keras.equalizing.channels import Channels, is_normalization
from stages.keras.equalizing.clipping import clips_at, open_activations
from stages.keras.equalizing.cross_layer import apply_factors, choose_factors, tensors_read
from stages.keras.equalizing.draft import Draft, has_channels, identity
from stages.keras.equalizing.normalizations import settle_normalizations
from stages.keras.equalizing.statistics import Statistics, statistics_of
from stages.keras.flatten import flattened
from stages.keras.normal_form import as_list, relative_difference
from stages.keras.regression.running import Network
from stages.keras.stripping.folding import find_folds, scale_and_offset
from stages.keras.stripping.usage import usage_of
from stages.keras.types import KerasModel

TOLERANCE = 1e-4  # of outputs, relative: the same function, with factors in other places
MOST_SAMPLES, COMPARED_SAMPLES = 512, 32  # on which channels are measured, and outputs compared
BATCH_SAMPLES, BATCH_NUMBERS = 64, 2**21  # in a batch, at most, and numbers of its inputs


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
    given = [array[:MOST_SAMPLES] for array in samples]
    run = _Run(flat, frozenset(kept), given)
    if not run.at_once():
        run = _Run(flat, frozenset(kept), given)
        run.one_by_one()
    if not run.notes:
        return Equalized(model, (), tuple(run.left_out), 0.0)
    return Equalized(run.model, tuple(run.notes), tuple(run.left_out), run.difference)


Step = Callable[["_Run", Draft], list[str]]  # changes the draft, and returns notes of that


class _Run:
    """Hold a network as it is by now, what was done to it, and what could not be proved."""

    def __init__(self, flat: KerasModel, kept: frozenset[str], samples: Sequence[NDArray[Any]]) -> None:
        self.model, self.notes, self.left_out, self.difference = flat, list[str](), list[str](), 0.0
        self._first, self._kept, self._samples, self._fixed = flat, kept, samples, flat.inputs[0].shape[0]
        numbers = sum(array[:1].size for array in samples)
        self._batch = self._fixed or max(1, min(BATCH_SAMPLES, BATCH_NUMBERS // numbers))
        self._wanted: list[Any] | None = None  # the outputs of the first model
        self._measured: tuple[Network, dict[str, Statistics]] | None = None  # where all tensors are

    def at_once(self) -> bool:
        """Take all steps, one model taking the changes of all; return whether its outputs are those of the first."""
        for step in STEPS:
            draft = Draft(self.model, own=self.model is not self._first)
            if notes := step(self, draft):
                self._go_on(step, draft.built(), notes)
        if self.notes:
            self.difference = self._difference()
        return self.difference <= TOLERANCE  # NaN is not

    def one_by_one(self) -> None:
        """Take each step alone, or leave it out if outputs would change."""
        for step in STEPS:
            before, draft = self.model, Draft(self.model)
            if not (notes := step(self, draft)):
                continue
            self.model = draft.built()
            difference = self._difference()
            if difference <= TOLERANCE:
                self._go_on(step, self.model, notes)
                self.difference = difference
            else:
                more = f" (and {len(notes) - 1} more)" if len(notes) > 1 else ""
                self.left_out.append(f"{notes[0]}{more}: outputs would change by {difference:.1e}")
                self.model = before

    def _go_on(self, step: Step, changed: KerasModel, notes: Sequence[str]) -> None:
        self.model = changed
        if step is not _Run.fold:  # converters fold by themselves
            self.notes += notes
        if step is _Run.settle:
            self._measured = None

    def fold(self, draft: Draft) -> list[str]:
        notes = []
        for fold in find_folds(usage_of(self.model))[0]:
            if has_channels(fold.producer) and not {fold.norm.name, fold.producer.name} & self._kept:
                scale, offset = scale_and_offset(fold.norm)
                kernels = draft.of(fold.producer.name)
                kernels.scale_outputs(scale)
                kernels.shift_outputs(offset)
                draft.replaced[fold.norm.name] = identity(fold.norm)
                notes.append(str(fold))
        return notes

    def open(self, draft: Draft) -> list[str]:
        network = Network.of(self.model)
        nodes = zip(network.calls, network.nodes, strict=True)
        keys = {call.makes[0] for call, node in nodes if clips_at(node.layer) is not None}
        # The first samples reach most limits: most networks then need no statistics of all tensors.
        first = statistics_of(network, [self._compared()], keys)
        if not open_activations(network, Draft(self.model), first, self._kept):
            return []
        self._measured = network, statistics_of(network, self._batches())
        return open_activations(network, draft, self._measured[1], self._kept)

    def settle(self, draft: Draft) -> list[str]:
        network = Network.of(self.model)
        if not any(is_normalization(node) for node in network.nodes):
            return []
        with_their_layers = {fold.norm.name for fold in find_folds(usage_of(self.model))[0]}  # converters fold these
        return settle_normalizations(network, draft, self._kept | with_their_layers)

    def equalize(self, draft: Draft) -> list[str]:
        network = Network.of(self.model)
        kept = self._kept | {node.layer.name for node in network.nodes if is_normalization(node)}
        channels = Channels.of(network, kept)
        keys = {key for _, key in tensors_read(network, channels)} | tensors_moved(network, kept)
        measured = self._statistics(network, keys)
        factors = choose_factors(network, channels, draft, measured)
        notes = apply_factors(channels, draft, factors)
        for key, factor in factors.items():
            if key in measured:
                measured[key].scale(1 / factor)
        return notes + absorb_offsets(network, draft, measured, kept)

    def _statistics(self, network: Network, keys: set[str]) -> dict[str, Statistics]:
        if self._measured is None:
            return statistics_of(network, self._batches(), keys)
        then, measured = self._measured  # the same graph, whose tensors may have other keys
        pairs = zip(then.calls, network.calls, strict=True)
        return {now.makes[0]: measured[call.makes[0]] for call, now in pairs if call.makes[0] in measured}

    def _batches(self) -> Iterator[list[NDArray[Any]]]:
        count = len(self._samples[0])
        for start in range(0, count, self._batch):
            places = range(start, start + self._batch)
            # The last sample fills up a batch of fixed size.
            picked = [min(place, count - 1) for place in places if self._fixed or place < count]
            yield [samples[picked] for samples in self._samples]

    def _compared(self) -> list[NDArray[Any]]:
        first = next(self._batches())
        return first if self._fixed else [samples[:COMPARED_SAMPLES] for samples in first]

    def _difference(self) -> float:
        if self._wanted is None:
            self._wanted = self._outputs(self._first)
        return relative_difference(self._wanted, self._outputs(self.model))

    def _outputs(self, model: KerasModel) -> list[Any]:
        inputs = self._compared()
        with before_squashing(model) as linear:
            return as_list(linear(inputs if len(inputs) > 1 else inputs[0], training=False))


STEPS: tuple[Step, ...] = (_Run.fold, _Run.open, _Run.settle, _Run.equalize)
