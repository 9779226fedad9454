"""Implement the weighing stage: search once how much groups' losses count. Prune calls it under `search_at`.

How much goes is not its concern, so that all targets of one measure take the same record.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.contracts.stage import Axis, Input, StageConfig, StageContext, StageResult
from pipeline.errors import PostconditionError
from pipeline.records.artifacts import Artifact, Kind
from pipeline.records.metrics import Metric
from stages.prune.config import TARGETS, PruneConfig
from stages.prune.facts import WeighingFacts
from stages.prune.measured.fingerprint import fingerprint_of
from stages.prune.ranking.criterion import package_of
from stages.prune.ranking.stage import score_of

if TYPE_CHECKING:
    from stages.prune.weighing.report import WeighingReport

REPORT_FILE = "weighing-report.json"
WHOLE = 1.0  # stands for any amount of a measure


class WeighingStage:
    """Search by trial how much each group's loss counts."""

    name: ClassVar[str] = "weighing"
    version: ClassVar[int] = 1
    config: ClassVar[type[StageConfig]] = PruneConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "model": Input(("keras-model",)),
        "source": Input(("keras-model",), of="first", required=False),  # shares are relative to it
    }
    outputs: ClassVar[tuple[Kind, ...]] = ("weighing-report",)
    axis: ClassVar[Axis | None] = None
    seeded: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "h5py", "numpy")

    def splits(self, config: PruneConfig) -> tuple[str, ...]:
        ranked_by = config.split_of_criterion
        return (ranked_by,) if ranked_by else ()

    def packages_of(self, config: PruneConfig) -> tuple[str, ...]:
        """Return the distribution of a criterion that is not ours."""
        return package_of(config.criterion)

    def device(self, config: PruneConfig, folder: Path, axis: str | None) -> Mapping[str, str] | None:
        """Return the fingerprint of `measure_on`'s device, for the key."""
        return fingerprint_of(config, folder)

    def requires(self, config: PruneConfig, inputs: Mapping[str, Artifact]) -> None:
        """Check nothing: nothing can be known before the model is read."""

    def run(self, context: StageContext[PruneConfig]) -> StageResult:
        from stages.keras.stored import shared_model
        from stages.keras.tensorflow import tensorflow_action
        from stages.prune.choosing.choice import ChoiceBasis
        from stages.prune.measured.device import device_of
        from stages.prune.pruning import weigh_groups

        config, split = context.config, context.config.split_of_criterion
        assert split is not None  # as of every criterion that predicts a loss
        score = score_of(context)
        data = context.data(split)

        def heard(done: int, total: int) -> None:
            context.events.advanced(done, total, "networks", f"tried {done}/{total}")

        with tensorflow_action(context.seed, context.threads):
            model = shared_model(context, "model")
            source = shared_model(context, "source") if "source" in context.inputs else None
            device = device_of(context, model if source is None else source)
            basis = ChoiceBasis(source=source, device=device, folder=context.work_dir, heard=heard, score=score)
            report = weigh_groups(model, config, data, context.seed, basis=basis)
        file = context.write(REPORT_FILE, report.to_json(), "application/json")
        tried = 0 if report.search is None else report.search.tried
        return StageResult(
            (Artifact(files=(file,), facts=WeighingFacts(tried=tried, foreseen=len(report.targets))),), {}
        )

    def ensures(self, context: StageContext[PruneConfig], result: StageResult) -> None:
        """Check that what was found is no worse than equal weights, at the target where it was searched."""
        from stages.prune.weighing.report import WeighingReport

        (made,) = result.outputs
        report = WeighingReport.model_validate_json(context.read_made(made, REPORT_FILE).read_bytes())
        # Not `>`: NaN has to fail.
        if report.search is not None and not report.search.output_error <= report.search.output_error_of_equal:
            raise PostconditionError("the best weights are worse than equal ones", where="weighing")


def weighing_of(context: StageContext[Any]) -> WeighingReport:
    """Return the weighing for a prune stage's settings: a sub-step, made once for all amounts of one measure."""
    from stages.prune.weighing.report import WeighingReport

    config: PruneConfig = context.config
    settings = config.model_dump(exclude_unset=True, exclude={"ratio", "tolerance", *TARGETS})
    if config.target is not None:
        settings[config.target[0]] = WHOLE
    made = context.call(WeighingStage.name, settings, context.inputs).output("weighing-report")
    return WeighingReport.model_validate_json(context.read_made(made, REPORT_FILE).read_bytes())
