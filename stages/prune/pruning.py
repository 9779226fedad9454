"""Pruning as a function of a model: analysis, choice, surgery, proof, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.errors import ModelError, PreconditionError
from stages.macs import count_macs
from stages.prune.allocate import kept_channels
from stages.prune.config import PruneConfig
from stages.prune.criteria import Scores, group_scores
from stages.prune.equivalence import (
    SAMPLES,
    WEAK_EFFECT,
    Equivalence,
    check_equivalence,
    check_flattened,
    masked_equivalence,
)
from stages.prune.flatten import flattened
from stages.prune.groups import ChannelGraph, ChannelGroup, channel_groups, frozen_layers
from stages.prune.labels import Freeze, Keep, Role
from stages.prune.report import GroupReport, PruneReport
from stages.prune.surgeon import remove_channels
from stages.prune.twins import randomise_weights


@dataclass(frozen=True, slots=True)
class PruneResult:
    """The pruned `tf_keras.Model`, and what was done."""

    model: Any
    report: PruneReport


def prune_model(model: Any, config: PruneConfig, data: Any = None, seed: int = 0) -> PruneResult:
    """A new model with the channels taken away that `config` asks for, nested models flattened; `model` stays as it is.

    The result was checked against the masked original: on the first few samples of `data` (an array, or one for each
    model input), or on random inputs. Raises ModelError for models without a graph or with weights that are not
    finite, PreconditionError where the configuration finds nothing to do, PostconditionError if the check fails.
    """
    nested, model = model, flattened(model)
    _check_finite(model)
    check_flattened(nested, model, _probes(model, data))
    graph = frozen_layers(channel_groups(model), config.exclude, [layer.name for layer in model.layers])
    graph, scores = _scored(model, graph, config, seed)
    keep = kept_channels(graph, graph.prunable, scores, config)
    removed = int((~keep).sum())
    if config.ratio > 0 and not removed:
        raise PreconditionError(
            f"ratio {config.ratio} takes no channel away with round_to {config.round_to} "
            f"and min_channels {config.min_channels}",
            where="prune.ratio",
            hint="raise the ratio, or lower round_to or min_channels",
        )
    pruned = remove_channels(model, graph, keep)
    found = _proof(model, pruned, graph, keep, _probes(model, data))
    return PruneResult(pruned, _report(model, pruned, graph, keep, config, found))


def _check_finite(model: Any) -> None:
    for layer in model.layers:
        if not all(np.isfinite(weight).all() for weight in layer.get_weights()):
            raise ModelError(
                "a weight is NaN or infinite, so channels can't be ranked",
                where=layer.name,
                hint="train the model anew from before it diverged",
            )


def _proof(model: Any, pruned: Any, graph: ChannelGraph, keep: Keep, probes: Sequence[Any] | None) -> Equivalence:
    """Masked equivalence, checked.

    Where the channels that went hardly mattered, or are dead, a wrong cut would hardly matter either: then the same
    surgery on random weights, with which every channel matters, has to be exact as well.
    """
    removed = int((~keep).sum())
    found = masked_equivalence(model, pruned, graph, keep, probes)
    if not removed or found.effect >= WEAK_EFFECT:
        check_equivalence(found, removed)
        return found
    check_equivalence(found, removed=0)
    twin = randomise_weights(remove_channels(model, graph, np.ones_like(keep)))  # with nothing removed, it is a copy
    again = masked_equivalence(twin, remove_channels(twin, graph, keep), graph, keep, probes)
    check_equivalence(again, removed)
    return replace(found, error=max(found.error, again.error))


def _scored(model: Any, graph: ChannelGraph, config: PruneConfig, seed: int) -> tuple[ChannelGraph, list[Scores]]:
    """Scores for the prunable groups of the graph that comes back; groups the criterion can't rank are frozen in it."""
    _check_prunable(model, graph)
    scored = dict(zip(graph.prunable, group_scores(model, graph.prunable, config.criterion, seed), strict=True))
    reason = f"{config.criterion} has nothing to rank its channels by"
    groups = tuple(
        replace(group, frozen=(Freeze(group.name, reason),)) if group in scored and scored[group] is None else group
        for group in graph.groups
    )
    graph = replace(graph, groups=groups)
    _check_prunable(model, graph)
    return graph, [scores for scores in scored.values() if scores is not None]


def _check_prunable(model: Any, graph: ChannelGraph) -> None:
    if graph.prunable:
        return
    reasons = dict.fromkeys(str(why) for group in graph.groups for why in group.frozen)
    raise PreconditionError(
        "no channel of this model can be taken away",
        where=model.name,
        hint="frozen by " + "; ".join(list(reasons)[:5]) if reasons else "it has no layer that makes channels",
    )


def _probes(model: Any, data: Any) -> Sequence[Any] | None:
    if data is None:
        return None
    arrays = data if isinstance(data, list | tuple) else [data]
    if len(arrays) != len(model.inputs):
        raise PreconditionError(
            f"data holds {len(arrays)} arrays, the model has {len(model.inputs)} inputs", where=model.name
        )
    pairs = zip(arrays, model.inputs, strict=True)
    return [np.asarray(array[:SAMPLES], tensor.dtype.as_numpy_dtype) for array, tensor in pairs]


def _report(
    model: Any, pruned: Any, graph: ChannelGraph, keep: Keep, config: PruneConfig, found: Equivalence
) -> PruneReport:
    before = sum(group.channels.size for group in graph.prunable)
    removed = int((~keep).sum())
    return PruneReport(
        criterion=config.criterion,
        scope=config.scope,
        ratio=config.ratio,
        removed_share=removed / before,
        channels_before=before,
        channels_after=before - removed,
        params_before=model.count_params(),
        params_after=pruned.count_params(),
        macs_before=count_macs(model),
        macs_after=count_macs(pruned),
        equivalence_error=found.error,
        masking_effect=found.effect,
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
        frozen=tuple(str(why) for why in group.frozen),
    )
