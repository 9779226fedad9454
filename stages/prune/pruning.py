"""Prune a model: analysis, choice, surgery, proof, report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.errors import ModelError
from stages.keras.flatten import flattened
from stages.keras.macs import count_macs, macs_of
from stages.keras.types import KerasModel
from stages.prune.analysis.groups import ChannelGraph, ChannelGroup
from stages.prune.analysis.labels import Keep, Role
from stages.prune.choosing.choice import Choice, ChoiceBasis, choose, prepare
from stages.prune.config import PruneConfig
from stages.prune.measured.measured_goal import reach_measured_goal
from stages.prune.report import GroupReport, PruneReport
from stages.prune.samples import samples_of
from stages.prune.surgery.equivalence import (
    SAMPLES,
    Equivalence,
    check_equivalence,
    check_flattened,
    masked_equivalence,
)
from stages.prune.surgery.random_weights import randomize_weights
from stages.prune.surgery.surgeon import remove_channels


@dataclass(frozen=True, slots=True)
class PruneResult:
    """Hold the pruned `tf_keras.Model`, and what was done."""

    model: Any
    report: PruneReport


def prune_model(
    model: KerasModel, config: PruneConfig, data: Any = None, seed: int = 0, *, basis: ChoiceBasis | None = None
) -> PruneResult:
    """Return a new model without the channels that `config` removes, nested models flattened; `model` is unchanged.

    `data` is for criteria that use data: an array, or one for each model input, or (inputs, labels), or a `Split`. The
    result was checked against the masked original: on the first few samples of it, or on random inputs. `basis` adds
    what a caller knows: an earlier source, a scan, scores, a device, a progress listener.

    Raises ModelError for models without a graph or with weights that are not finite, PreconditionError if the
    configuration finds nothing to do, PostconditionError if the check fails.
    """
    nested, model = model, flattened(model)
    _check_finite(model)
    samples = None if data is None else samples_of(model, data)
    probes = None if samples is None else samples.read(0, min(SAMPLES, len(samples)))[0]
    check_flattened(nested, model, probes)
    known = replace(basis or ChoiceBasis(), seed=seed, samples=samples)
    if known.source is not None:
        known = replace(known, source=flattened(known.source))
    if config.measured_target:
        choice, pruned = reach_measured_goal(prepare(model, config, known), model, known)
    else:
        choice = choose(model, config, known)
        pruned = remove_channels(model, choice.graph, choice.keep)
    proof = _proof(model, pruned, choice.graph, choice.keep, probes)
    return PruneResult(pruned, _report(model, pruned, choice, config, proof))


def _check_finite(model: KerasModel) -> None:
    for layer in model.layers:
        if not all(np.isfinite(weight).all() for weight in layer.get_weights()):
            raise ModelError(
                "a weight is NaN or infinite, so channels can't be ranked",
                where=layer.name,
                hint="train the model anew from before it diverged",
            )


def _proof(
    model: KerasModel, pruned: Any, graph: ChannelGraph, keep: Keep, probes: Sequence[Any] | None
) -> Equivalence:
    """Check masked equivalence.

    If the removed channels hardly mattered, or the remaining ones are dead, a wrong cut would hardly matter either:
    then the same surgery on random weights, with which every channel matters, has to be exact as well.
    """
    removed = int((~keep).sum())
    proof = masked_equivalence(model, pruned, graph, keep, probes)
    if not removed or proof.strong:
        check_equivalence(proof, removed)
        return proof
    check_equivalence(proof, removed=0)
    twin = randomize_weights(remove_channels(model, graph, np.ones_like(keep)))  # with nothing removed, it is a copy
    again = masked_equivalence(twin, remove_channels(twin, graph, keep), graph, keep, probes)
    check_equivalence(again, removed)
    return replace(proof, error=max(proof.error, again.error))


def _report(model: KerasModel, pruned: Any, choice: Choice, config: PruneConfig, proof: Equivalence) -> PruneReport:
    graph, keep = choice.graph, choice.keep
    before = sum(group.channels.size for group in graph.prunable)
    removed = int((~keep).sum())
    return PruneReport(
        criterion=config.criterion,
        scope=config.scope,
        measure=choice.measure,
        wanted=None if math.isnan(choice.wanted) else choice.wanted,
        reached=choice.reached,
        removed_share=removed / before,
        channels_before=before,
        channels_after=before - removed,
        params_before=model.count_params(),
        params_after=pruned.count_params(),
        macs_before=macs_of(model).number,
        macs_after=count_macs(pruned),
        macs_unknown=macs_of(model).unknown,
        equivalence_error=proof.error,
        masking_effect=proof.effect,
        groups=tuple(_group_report(group, keep) for group in graph.groups),
    )


def _group_report(group: ChannelGroup, keep: Keep) -> GroupReport:
    stays = keep[group.channels]
    return GroupReport(
        name=group.name,
        producers=group.makers,
        pass_through=group.layers(Role.PASS_THROUGH),
        consumers=group.layers(Role.CONSUMER),
        channels_before=group.channels.size,
        channels_after=int(stays.sum()),
        removed=tuple(np.flatnonzero(~stays).tolist()),
        frozen=tuple(str(freeze) for freeze in group.frozen),
    )
