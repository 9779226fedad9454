"""Fit each layer of a pruned network to what it gives in the source, from inputs of the network as fitted so far.

Layer by layer in the order of the graph (He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", 2017,
arXiv:1707.06168): see docs/design/reconstruction.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

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
from stages.keras.regression.samples import Samples
from stages.keras.regression.separable import SeparableLayer
from stages.keras.regression.steps import Step, steps_of
from stages.keras.regression.system import BLOCK, System
from stages.keras.regression.targets import Kept, Positions, SourceLayer, Targets
from stages.keras.types import KerasLayer, KerasModel

MOST_WINDOWED = 1024  # unknowns of a separable convolution's windows: sums over more cost more than they gain
SMALL_BYTES = 64 * 2**20  # of normal equations: layers share a step up to this, or up to the widest layer alone

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
class Settings:
    """Set how a network is fitted: positions of a feature map, the ridge's share, a folder for what is on disk.

    `closing` are the layers whose sums become probabilities, with softmax or sigmoid: fitted to those as well. Without
    `offsets` only kernels change.
    """

    positions: Positions
    ridge: float
    folder: Path
    closing: Mapping[str, str] = field(default_factory=dict)
    offsets: bool = True


def refit(
    model: KerasModel, source: KerasModel, kept: Kept, samples: Samples, settings: Settings, heard: Heard
) -> list[LayerFit]:
    """Fit the linear layers of `model` in place, and return what became of each; `source` is unchanged.

    Neither holds nested models; `kept` names the channels of the source that each layer of `model` still makes. Steps
    that a killed run had finished are read from the settings' folder. Raises ModelError naming a layer whose inputs or
    outputs are not finite.
    """
    linear = {layer.name: _view_of(layer) for layer in model.layers if is_linear(layer)}
    compute = partial(compute_targets, source, linear, kept, samples, settings, heard)
    return fit_layers(model, linear, compute, samples, settings, heard)


@one_blas_thread()
def compute_targets(
    source: KerasModel, names: Collection[str], kept: Kept, samples: Samples, settings: Settings, heard: Heard
) -> None:
    """Put the outputs of the layers in `names` of the source into the settings' folder, before their activations."""
    layers = {name: SourceLayer.of(source.get_layer(name), kept.get(name)) for name in names}
    total, network = samples.batches + len(names), Network.of(source)

    def told(batch: int) -> None:
        heard(batch, total, "source")

    Targets(settings.folder).compute(network, layers, samples.batches, samples.read, settings.positions, told)


@one_blas_thread()
def fit_layers(
    model: KerasModel,
    linear: Mapping[str, Linear],
    compute: Callable[[], None],
    samples: Samples,
    settings: Settings,
    heard: Heard,
) -> list[LayerFit]:
    """Fit the layers of `model` that `linear` holds by name, in the way that it sees them; all else as `refit` says.

    `compute` is called for the targets in the settings' folder unless a killed run had finished all steps.
    """
    network = Network.of(model)
    sizes = {name: _bytes_of(layer) for name, layer in linear.items()}
    steps = steps_of(network.calls, sizes, max([SMALL_BYTES, *sizes.values()]))
    total = samples.batches + len(linear)
    done = [finished(settings.folder, number) for number in range(len(steps))]
    if not all(done):
        compute()
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
    linear: Mapping[str, Linear]
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
        offset = offset_of(self.network, linear.layer) if self.settings.offsets else None
        return System(linear, offset, probabilities)

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
            f"{does} NaN or infinite values in the fitted network on the samples",
            where=layer.name,
            hint="look at the data and at the model's weights",
        )


def _view_of(layer: KerasLayer) -> Linear:
    """Return how a layer is fitted: a separable convolution of few unknowns by both of its kernels."""
    free = kind_of(layer).separable and layer.depthwise_kernel.constraint is layer.pointwise_kernel.constraint is None
    separable = SeparableLayer(layer) if free else None
    return separable if separable is not None and separable.shape[1] <= MOST_WINDOWED else LinearLayer(layer)


def _bytes_of(linear: Linear) -> int:
    """Return what two sets of normal equations of a layer take."""
    groups, unknowns, outputs = linear.shape
    return 16 * groups * min(unknowns, BLOCK) * (min(unknowns, BLOCK) + outputs)


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
