"""Implement the ranking stage: score channels by a criterion that looks at data. Prune calls it.

How many channels go is not its concern, so that pruning to another ratio, by another scope or to other steps takes the
same record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.contracts.stage import Axis, Input, StageConfig, StageContext, StageResult
from pipeline.errors import PostconditionError
from pipeline.records.artifacts import Artifact, Kind
from pipeline.records.metrics import Metric
from stages.prune.config import RankingConfig
from stages.prune.facts import RankingFacts
from stages.prune.ranking.criterion import package_of
from stages.samples.checks import keras_facts_of, require_finite_inputs, require_fit

if TYPE_CHECKING:
    from stages.prune.choosing.choice import Score
    from stages.prune.ranking.report import RankingReport

REPORT_FILE = "ranking-report.json"


class RankingStage:
    """Score the channels of every group that can be pruned."""

    name: ClassVar[str] = "ranking"
    version: ClassVar[int] = 1
    config: ClassVar[type[StageConfig]] = RankingConfig
    inputs: ClassVar[Mapping[str, Input]] = {"model": Input(("keras-model",))}
    outputs: ClassVar[tuple[Kind, ...]] = ("ranking-report",)
    axis: ClassVar[Axis | None] = None
    seeded: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "h5py", "numpy")

    def splits(self, config: RankingConfig) -> tuple[str, ...]:
        ranked_by = config.split_of_criterion
        return (ranked_by,) if ranked_by else ()

    def packages_of(self, config: RankingConfig) -> tuple[str, ...]:
        """Return the distribution of a criterion that is not ours."""
        return package_of(config.criterion)

    def requires(self, config: RankingConfig, inputs: Mapping[str, Artifact]) -> None:
        """Check nothing: nothing can be known before the model is read."""

    def run(self, context: StageContext[RankingConfig]) -> StageResult:
        from stages.keras.stored import shared_model
        from stages.keras.tensorflow import tensorflow_action
        from stages.prune.pruning import rank_channels

        config, split = context.config, context.config.split_of_criterion
        data = None if split is None else context.data(split)
        if data is not None:
            needs_labels = config.declared.needs == "labels"
            require_fit(data, keras_facts_of(context.inputs["model"]), labels=needs_labels)
            require_finite_inputs(data)

        def heard(done: int, total: int) -> None:
            context.events.advanced(done, total, "samples", f"{config.criterion} {done}/{total}")

        with tensorflow_action(context.seed, context.threads):
            report = rank_channels(shared_model(context, "model"), config, data, context.seed, heard)
        file = context.write(REPORT_FILE, report.to_json(), "application/json")
        unranked = sum(group.scores is None for group in report.groups)
        facts = RankingFacts(groups=len(report.groups), unranked_groups=unranked, samples=report.samples)
        return StageResult((Artifact(files=(file,), facts=facts),), {})

    def ensures(self, context: StageContext[RankingConfig], result: StageResult) -> None:
        """Check that something was ranked; that scores are finite was checked as they were made."""
        (report,) = result.outputs
        if not isinstance(report.facts, RankingFacts) or not report.facts.groups:
            raise PostconditionError("no group of channels is in the ranking", where="ranking")


def ranking_of(context: StageContext[Any]) -> RankingReport:
    """Return the ranking by a stage's settings of its input `model`: a sub-step, made once for all who ask for it."""
    from stages.prune.ranking.report import RankingReport

    config: RankingConfig = context.config
    settings: dict[str, object] = {
        name: getattr(config, name)
        for name in ("criterion", "reduction", "samples", "data_split")
        if name in config.model_fields_set
    }
    made = context.call(RankingStage.name, settings, {"model": context.inputs["model"]}).output("ranking-report")
    return RankingReport.model_validate_json(context.read_made(made, REPORT_FILE).read_bytes())


def score_of(context: StageContext[Any]) -> Score:
    """Return how channels score by a stage's settings: criteria that look at data are asked in the sub-step."""
    from stages.prune.ranking.scoring import group_scores

    if context.config.split_of_criterion is None:
        return group_scores
    ranking = ranking_of(context)
    return lambda _, groups, *__: ranking.scores_of(groups)
