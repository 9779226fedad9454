"""Score how important each channel of a group is: higher scores stay.

A criterion that judges a layer's own weights or activations gives *members*, one per producing layer; a channel's
values from several members are reduced to one score (`reduction.py`). Criteria that judge the loss without a channel
(`LOSSES`) see the whole group at once, through its readers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.errors import ModelError, PreconditionError
from stages.keras.types import KerasModel
from stages.prune.analysis.groups import ChannelGroup
from stages.prune.config import LOSSES, RankingConfig
from stages.prune.ranking.criteria.activations import apoz
from stages.prune.ranking.criteria.gradients import hessian, taylor
from stages.prune.ranking.criteria.reduction import Member, Scores, normalised, reduced
from stages.prune.ranking.criteria.weights import bn_scale, fpgm, l1, l2, lamp
from stages.prune.samples import Samples
from stages.samples.batches import Progress, unheard

__all__ = ["Member", "Scores", "group_scores", "normalised"]

OfWeights = Callable[[Any, ChannelGroup], list[Member]]
OfData = Callable[[Any, Sequence[ChannelGroup], Samples, int, Progress], list[list[Member]]]

WEIGHTS: Mapping[str, OfWeights] = {"l1": l1, "l2": l2, "fpgm": fpgm, "lamp": lamp, "bn_scale": bn_scale}
DATA: Mapping[str, OfData] = {"apoz": apoz, "taylor": taylor, "hessian": hessian}


def group_scores(
    model: KerasModel,
    groups: Sequence[ChannelGroup],
    config: RankingConfig,
    seed: int,
    samples: Samples | None = None,
    heard: Progress = unheard,
) -> list[Scores | None]:
    """Return a score for each channel of each group, in the group's order; None if the criterion can't rank it.

    Scores are in the criterion's own unit: thresholds are compared with these. `normalised` makes groups comparable.
    Raises PreconditionError if the criterion needs `samples` and has none, ModelError if a score is not finite.
    """
    name = config.criterion
    if name == "random":
        return [np.random.default_rng((seed, i)).random(group.channels.size) for i, group in enumerate(groups)]
    how = "sum" if name in LOSSES else config.reduction
    members = _members(model, groups, config, seed, samples, heard)
    found = [reduced(group, parts, how) for group, parts in zip(groups, members, strict=True)]
    for group, scores in zip(groups, found, strict=True):
        if scores is not None and not np.isfinite(scores).all():
            raise ModelError(
                f"{name} gives scores that are not finite",
                where=group.name,
                hint="look at the data and the loss on it: something overflows",
            )
    return found


def _members(
    model: KerasModel,
    groups: Sequence[ChannelGroup],
    config: RankingConfig,
    seed: int,
    samples: Samples | None,
    heard: Progress,
) -> list[list[Member]]:
    if config.criterion in WEIGHTS:
        return [WEIGHTS[config.criterion](model, group) for group in groups]
    if samples is None or not len(samples):
        raise PreconditionError(
            f"{config.criterion} looks at data, and there is none",
            where="prune.criterion",
            hint="add `data:` to the recipe, or give prune_model data; l2 and lamp need none",
        )
    return DATA[config.criterion](model, groups, samples.first(config.samples), seed, heard)
