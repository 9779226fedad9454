"""Fit each layer of a pruned network to what it gives in the source, from inputs of the network as fitted so far.

Layer by layer in the order of the graph (He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", 2017,
arXiv:1707.06168): see docs/design/reconstruction.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.records.values import Value
from stages.keras.layer_kinds import kind_of
from stages.keras.regression.ahead import one_ahead
from stages.keras.regression.finished import finished, restore, store
from stages.keras.regression.linear_layers import Linear, LinearLayer, Rows, is_linear
from stages.keras.regression.offsets import offset_of
from stages.keras.regression.one_thread import one_blas_thread
from stages.keras.regression.probabilities import Probabilities
from stages.keras.regression.running import Network, Walk
from stages.keras.regression.separable import SeparableLayer
from stages.keras.regression.steps import Step, steps_of
from stages.keras.regression.system import BLOCK, System
from stages.keras.regression.targets import Kept, Positions, SourceLayer, Targets
from stages.keras.types import KerasLayer, KerasModel

HELD_OUT = 5  # one sample in so many decides whether a fit is kept, and is not fitted
MOST_WINDOWED = 1024  # unknowns of a separable convolution's windows: sums over more cost more than they gain
SMALL_BYTES = 64 * 2**20  # of normal equations: layers share a step up to this, or up to the widest layer alone

Take = Callable[[NDArray[np.int64]], list[NDArray[Any]]]
Heard = Callable[[int, int, str], None]  # how much is done, of how much, at what


class LayerFit(Value):
    """Report one layer. Errors are on held-out samples, relative to the variance of the source's outputs.

    `rows` is how many positions were fitted for `unknowns` weights of each output; `kept` whether the new weights were
    better; `taken_back` whether the network as a whole was nearer to the source with the old ones. A layer that closes
    the network may have been fitted to the source's probabilities: `divergence_before` (KL, in nats) is that of least
    squares.
    """

    layer: str
    unknowns: int
    rows: int
    error_before: float
    error_after: float
    kept: bool
    taken_back: bool = False
    divergence_before: float | None = None
    divergence_after: float | None = None


@dataclass(frozen=True, slots=True)
class Samples:
    """Give samples in batches of `size`; `take` returns an array for each input, of the samples at these places."""

    order: NDArray[np.int64]
    size: int
    take: Take

    @property
    def batches(self) -> int:
        return -(-len(self.order) // self.size)

    @property
    def held_out(self) -> NDArray[np.int64]:
        """Return the places of the samples that are held out."""
        return self.order[HELD_OUT - 1 :: HELD_OUT]

    @property
    def held_out_batches(self) -> int:
        return -(-len(self.held_out) // self.size)

    @property
    def fitted_count(self) -> int:
        """Return how many samples are fitted."""
        return len(self.order) - len(self.held_out)

    def fitted(self, batch: int) -> NDArray[np.bool_]:
        """Return for each sample of a batch whether it is fitted; the others are held out."""
        return np.asarray(self._numbers(batch) % HELD_OUT != HELD_OUT - 1)

    def read(self, batch: int) -> list[NDArray[Any]]:
        """Return all samples of a batch."""
        return self.take(self.order[self._numbers(batch)])

    def read_held_out(self, batch: int) -> list[NDArray[Any]]:
        """Return a batch of the samples that are held out, of `held_out_batches`."""
        return self.take(self.held_out[batch * self.size : (batch + 1) * self.size])

    def _numbers(self, batch: int) -> NDArray[np.int64]:
        return np.arange(batch * self.size, min(len(self.order), (batch + 1) * self.size))


@dataclass(frozen=True, slots=True)
class Settings:
    """Set how a network is fitted: positions of a feature map, the ridge's share, a folder for what is on disk.

    `closing` are the layers whose sums become probabilities, with softmax or sigmoid: fitted to those as well.
    """

    positions: Positions
    ridge: float
    folder: Path
    closing: Mapping[str, str] = field(default_factory=dict)


@one_blas_thread()
def refit(
    model: KerasModel, source: KerasModel, kept: Kept, samples: Samples, settings: Settings, heard: Heard
) -> list[LayerFit]:
    """Fit the linear layers of `model` in place, and return what became of each; `source` is unchanged.

    Neither holds nested models; `kept` names the channels of the source that each layer of `model` still makes. Steps
    that a killed run had finished are read from the settings' folder. Raises ModelError naming a layer whose inputs or
    outputs are not finite.
    """
    network = Network.of(model)
    linear: dict[str, Linear] = {name: _view_of(layer) for name, layer in _linear_layers(model).items()}
    sizes = {name: _bytes_of(layer) for name, layer in linear.items()}
    steps = steps_of(network.calls, sizes, max([SMALL_BYTES, *sizes.values()]))
    total = samples.batches + len(linear)
    done = [finished(settings.folder, number) for number in range(len(steps))]
    if not all(done):
        _compute_targets(source, kept, samples, settings, lambda batch: heard(batch, total, "source"))
    fitter = _Fitter(network, linear, samples, settings, Walk(network, samples.batches, samples.read, settings.folder))
    found: list[LayerFit] = []
    for number, step in enumerate(steps):
        if done[number]:
            found += map(LayerFit.model_validate, restore(settings.folder, number, model))
        else:
            systems = fitter.fit(step)
            fits = [_report(system) for system in systems]
            changed = [variable for system in systems for variable in system.changed]
            store(settings.folder, number, model, changed, [fit.model_dump(mode="json") for fit in fits])
            found += fits
        heard(samples.batches + len(found), total, step.layers[-1])
    fitter.walk.close()
    return found


@dataclass(frozen=True, slots=True)
class _Fitter:
    """Hold what the fitting of each step needs."""

    network: Network
    linear: dict[str, Linear]
    samples: Samples
    settings: Settings
    walk: Walk

    def fit(self, step: Step) -> list[System]:
        """Fit the step's layers, in place."""
        systems = {name: self._system(name) for name in step.layers}
        for name in systems:
            for weight in self.linear[name].layer.weights:
                _require_finite(self.linear[name].layer, weight.numpy(), "holds")
        for block in range(max(system.blocks for system in systems.values())):
            asked = {name: system for name, system in systems.items() if block < system.blocks}
            for system in asked.values():
                system.begin(block)
            for place, rows, targets, fitted in one_ahead(self._rows(step)):
                name = self.network.calls[place].layer
                if name in asked:
                    asked[name].add(block, rows, targets, fitted)
            for system in asked.values():
                system.solve(block, self.settings.ridge)
        for system in systems.values():
            system.apply()
        return list(systems.values())

    def _system(self, name: str) -> System:
        linear, squashing, probabilities = self.linear[name], self.settings.closing.get(name), None
        if squashing is not None and linear.layer.kernel.constraint is None:
            probabilities = Probabilities.of(squashing, linear.shape, self.samples.fitted_count)
        return System(linear, offset_of(self.network, linear.layer), probabilities)

    def _rows(self, step: Step) -> Iterator[tuple[int, Rows, NDArray[np.float64], NDArray[np.bool_]]]:
        """Yield for each batch and call of the step's layers: rows, the source's outputs, which rows are fitted."""
        names, stored = self.network.names, Targets(self.settings.folder)
        for batch, inputs in one_ahead(self.walk.inputs_at(step)):
            fitted = self.samples.fitted(batch)
            for place, tensor in inputs.items():
                linear = self.linear[self.network.calls[place].layer]
                rows = self.settings.positions.rows(linear, np.asarray(tensor), names[place], batch)
                _require_finite(linear.layer, rows, "reads")
                targets = stored.of(names[place], batch)
                yield place, rows, targets, np.repeat(fitted, len(targets) // len(fitted))


def _require_finite(layer: KerasLayer, values: NDArray[np.float64], does: str) -> None:
    if not np.isfinite(values).all():
        raise ModelError(
            f"{does} NaN or infinite values in the pruned network on the samples",
            where=layer.name,
            hint="look at the data and at the model's weights",
        )


def _linear_layers(model: KerasModel) -> dict[str, KerasLayer]:
    return {layer.name: layer for layer in model.layers if is_linear(layer)}


def _view_of(layer: KerasLayer) -> Linear:
    """Return how a layer is fitted: a separable convolution of few unknowns by both of its kernels."""
    free = kind_of(layer).separable and layer.depthwise_kernel.constraint is layer.pointwise_kernel.constraint is None
    separable = SeparableLayer(layer) if free else None
    return separable if separable is not None and separable.shape[1] <= MOST_WINDOWED else LinearLayer(layer)


def _bytes_of(linear: Linear) -> int:
    """Return what two sets of normal equations of a layer take."""
    groups, unknowns, outputs = linear.shape
    return 16 * groups * min(unknowns, BLOCK) * (min(unknowns, BLOCK) + outputs)


def _compute_targets(
    source: KerasModel, kept: Kept, samples: Samples, settings: Settings, heard: Callable[[int], None]
) -> None:
    network, targets = Network.of(source), Targets(settings.folder)
    layers = {name: SourceLayer.of(layer, kept.get(name)) for name, layer in _linear_layers(source).items()}
    targets.compute(network, layers, samples.batches, samples.read, settings.positions, heard)


def _report(system: System) -> LayerFit:
    return LayerFit(
        layer=system.linear.layer.name,
        unknowns=system.unknowns,
        rows=system.rows,
        error_before=system.error_before,
        error_after=system.error_after,
        kept=system.kept,
        divergence_before=system.divergence_before,
        divergence_after=system.divergence_after,
    )
