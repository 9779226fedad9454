"""Score how important each channel of a group is: higher scores stay.

A criterion that judges a layer's own weights or activations gives *members*, one per producing layer; a channel's
values from several members are reduced to one score (`reduction.py`). Criteria that judge the loss without a channel
see the whole group at once, through its readers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.errors import ModelError, PreconditionError
from stages.keras.channels.groups import ChannelGroup
from stages.keras.types import KerasModel
from stages.prune.config import RankingConfig
from stages.prune.ranking.criterion import Question
from stages.prune.ranking.members import Scores
from stages.prune.ranking.reduction import reduced
from stages.samples.batches import Progress, unheard
from stages.samples.model_samples import ModelSamples

NO_SAMPLES = ModelSamples(0, lambda _start, _stop: ([], None))


def group_scores(
    model: KerasModel,
    groups: Sequence[ChannelGroup],
    config: RankingConfig,
    seed: int,
    samples: ModelSamples | None = None,
    heard: Progress = unheard,
) -> list[Scores | None]:
    """Return a score for each channel of each group, in the group's order; None if the criterion can't rank it.

    Scores are in the criterion's own unit: thresholds are compared with these. `normalized` makes groups comparable.
    Raises PreconditionError if the criterion needs `samples` and has none, ModelError if a score is not finite.
    """
    name, declared = config.criterion, config.declared
    if declared.score is None:
        raise PreconditionError(f"{name} ranks single weights, not channels", where="prune.criterion")
    members = declared.score(Question(model, groups, seed, _samples(config, samples), heard))
    reduction = "sum" if declared.loss else config.reduction
    all_scores = [reduced(group, parts, reduction) for group, parts in zip(groups, members, strict=True)]
    for group, scores in zip(groups, all_scores, strict=True):
        if scores is not None and not np.isfinite(scores).all():
            raise ModelError(
                f"{name} gives scores that are not finite",
                where=group.name,
                hint="look at the data and the loss on it: something overflows",
            )
    return all_scores


def _samples(config: RankingConfig, samples: ModelSamples | None) -> ModelSamples:
    """Return the samples that the criterion may look at; PreconditionError if it needs some and there are none."""
    if config.declared.needs == "weights":
        return NO_SAMPLES
    if samples is None or not len(samples):
        raise PreconditionError(
            f"{config.criterion} looks at data, and there is none",
            where="prune.criterion",
            hint="add `data:` to the recipe, or give prune_model data; l2 and lamp need none",
        )
    return samples.first(config.samples)
