"""Prune a model: analysis, choice, surgery, proof, report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.errors import ModelError
from stages.keras.channels.groups import ChannelGraph, ChannelGroup
from stages.keras.channels.labels import Keep, Role
from stages.keras.channels.left import channels_left
from stages.keras.flatten import flattened
from stages.keras.macs import count_macs, macs_of
from stages.keras.types import KerasModel
from stages.prune.choosing.choice import Choice, ChoiceBasis, Prepared, prepare, prunable_graph
from stages.prune.choosing.depletion import depleted, prevention
from stages.prune.choosing.searched import searched, weighed
from stages.prune.config import PruneConfig, RankingConfig
from stages.prune.measured.measured_goal import reach_measured_goal
from stages.prune.ranking.predicted_loss import predicted_losses
from stages.prune.ranking.report import RankingReport
from stages.prune.ranking.scoring import group_scores
from stages.prune.report import DepletedGroup, GroupReport, PruneReport, SearchReport
from stages.prune.surgery.equivalence import (
    SAMPLES,
    Equivalence,
    check_equivalence,
    check_flattened,
    masked_equivalence,
)
from stages.prune.surgery.random_weights import randomize_weights
from stages.prune.surgery.surgeon import remove_channels
from stages.prune.weighing.report import WeighingReport
from stages.prune.weighing.weigh import weigh
from stages.samples.batches import Progress, unheard
from stages.samples.model_samples import samples_of


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
    known = _known(model, data, seed, basis)
    samples = known.samples
    probes = None if samples is None else samples.read(0, min(SAMPLES, len(samples)))[0]
    check_flattened(nested, model, probes)
    prepared, search = prepare(model, config, known), None
    if config.weighs_once and samples is not None:
        weighing = known.weighing or weigh(prepared, samples.first(config.samples), known)
        prepared, search = weighed(prepared, weighing.search), weighing.search
    elif config.scope == "loss" and config.search and samples is not None:
        prepared, search = searched(prepared, samples.first(config.samples), known)
    if config.measured_target:
        choice, pruned = reach_measured_goal(prepared, model, known)
    else:
        choice = prepared.choice()
        pruned = remove_channels(model, choice.graph, choice.keep)
    proof = _proof(model, pruned, choice.graph, choice.keep, probes)
    return PruneResult(pruned, _report(model, pruned, prepared, search, choice, proof))


def rank_channels(
    model: KerasModel, config: RankingConfig, data: Any, seed: int, heard: Progress = unheard
) -> RankingReport:
    """Return how the channels of every group that can be pruned score; `model` is unchanged.

    `data` is as for `prune_model`, and so are the errors.
    """
    model = flattened(model)
    _check_finite(model)
    groups, samples = prunable_graph(model, ()).prunable, samples_of(model, data)
    scores = group_scores(model, groups, config, seed, samples, heard)
    return RankingReport.of(config, min(len(samples), config.samples), groups, scores)


def weigh_groups(
    model: KerasModel, config: PruneConfig, data: Any, seed: int, *, basis: ChoiceBasis | None = None
) -> WeighingReport:
    """Return how `search_at` of `config` weighs groups' losses for any target; `model` is unchanged.

    Arguments and errors are as for `prune_model`.
    """
    model = flattened(model)
    _check_finite(model)
    known = _known(model, data, seed, basis)
    assert known.samples is not None
    return weigh(prepare(model, config, known), known.samples.first(config.samples), known)


def _known(model: KerasModel, data: Any, seed: int, basis: ChoiceBasis | None) -> ChoiceBasis:
    """Return what is known, with the samples; nested models in the source are flattened."""
    known = replace(basis or ChoiceBasis(), seed=seed, samples=None if data is None else samples_of(model, data))
    return known if known.source is None else replace(known, source=flattened(known.source))


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


def _report(
    model: KerasModel, pruned: Any, prepared: Prepared, search: SearchReport | None, choice: Choice, proof: Equivalence
) -> PruneReport:
    graph, keep, config = choice.graph, choice.keep, prepared.config
    lost = depleted(prepared.ranking, choice.counts)
    losses = _losses(prepared, choice)
    before = sum(group.channels.size for group in graph.prunable)
    removed = int((~keep).sum())
    return PruneReport(
        criterion=config.criterion,
        scope=config.scope,
        competition=config.competition,
        measure=choice.measure,
        wanted=None if math.isnan(choice.wanted) else choice.wanted,
        reached=choice.reached,
        predicted_loss=sum(losses.values()) if losses else None,
        search=search,
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
        depleted=tuple(_depleted_group(prepared, choice, index) for index in lost),
        prevention=prevention(prepared, choice) if lost else None,
        groups=tuple(_group_report(group, keep, losses.get(group.name)) for group in graph.groups),
        kept={name: tuple(left.tolist()) for name, left in channels_left(model, graph, keep).items()},
    )


def _depleted_group(prepared: Prepared, choice: Choice, index: int) -> DepletedGroup:
    return DepletedGroup(
        name=choice.graph.prunable[index].name,
        channels_in_source=prepared.ranking.source.sizes[index],
        channels_after=choice.counts[index],
    )


def _losses(prepared: Prepared, choice: Choice) -> dict[str, float]:
    """Return by group what the criterion predicts that its removed channels cost; nothing if it is no loss."""
    if not prepared.config.declared.loss:
        return {}
    ranked = zip(choice.graph.prunable, prepared.ranking.scores, choice.counts, strict=True)
    return {group.name: float(predicted_losses(scores)[count]) for group, scores, count in ranked}


def _group_report(group: ChannelGroup, keep: Keep, predicted_loss: float | None) -> GroupReport:
    stays = keep[group.channels]
    return GroupReport(
        name=group.name,
        producers=group.makers,
        pass_through=group.layers(Role.PASS_THROUGH),
        consumers=group.layers(Role.CONSUMER),
        channels_before=group.channels.size,
        channels_after=int(stays.sum()),
        removed=tuple(np.flatnonzero(~stays).tolist()),
        predicted_loss=predicted_loss,
        frozen=tuple(str(freeze) for freeze in group.frozen),
    )
