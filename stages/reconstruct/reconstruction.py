"""Reconstruct a pruned model: check the graphs, fit layer by layer, take back what harms, report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import PreconditionError
from stages.keras.closing import closing_layers
from stages.keras.flatten import flattened
from stages.keras.regression.output_error import OutputError
from stages.keras.regression.refit import Heard, Settings, refit
from stages.keras.regression.running import Network
from stages.keras.regression.samples import FEWEST_SAMPLES, HELD_OUT, Take, batched
from stages.keras.regression.taking_back import values_of, without_harm
from stages.keras.regression.targets import Kept, Positions
from stages.keras.types import KerasModel
from stages.reconstruct.config import ReconstructConfig
from stages.reconstruct.report import ReconstructionReport
from stages.reconstruct.same_graph import not_fitted, put_back_normalizations, require_same_graph


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """Hold the model, whose weights are new, and what was done."""

    model: KerasModel
    report: ReconstructionReport


def reconstruct(
    pruned: KerasModel,
    source: KerasModel,
    kept: Kept,
    count: int,
    take: Take,
    config: ReconstructConfig,
    seed: int,
    folder: Path,
    heard: Heard = lambda *_: None,
) -> Reconstruction:
    """Fit what is left in `pruned` to `source`, on the first samples of a seeded order of `count`.

    `pruned` changes in place if no model is nested in it; `source` never does. `kept` are the channels of the source
    that layers still make, as prune reports them. `folder` holds scratch files, with which a killed run resumes.

    Raises PreconditionError if the graphs differ or there are too few samples, ModelError for values that are not
    finite, naming the layer.
    """
    if count < FEWEST_SAMPLES:
        raise PreconditionError(
            f"{count} samples are too few: {FEWEST_SAMPLES} are needed, of which one in {HELD_OUT} is held out",
            where=f"reconstruct.data_split {config.data_split}",
            hint="give it more samples; labels are not needed",
        )
    pruned, source = flattened(pruned), flattened(source)
    network, original = Network.of(pruned), Network.of(source)
    require_same_graph(network, original, kept)
    order = np.random.default_rng(seed).permutation(count)[: config.samples]
    samples = batched(original, order, take)
    error = OutputError.against(source, samples, folder / "outputs")
    before, error_before = values_of(pruned), error.of(pruned)
    put_back_normalizations(network, original, kept)
    settings = Settings(Positions(config.positions, seed), config.ridge, folder, closing_layers(pruned))
    fits = refit(pruned, source, kept, samples, settings, heard)
    fits, error_after = without_harm(network, before, fits, error, error_before)
    report = ReconstructionReport(
        samples=len(order),
        held_out=len(samples.held_out),
        output_error_before=error_before,
        output_error_after=error_after,
        layers=tuple(fits),
        not_fitted=not_fitted(network, original),
    )
    return Reconstruction(pruned, report)
