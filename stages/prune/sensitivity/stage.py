"""Implement the sensitivity stage: what each group alone costs in accuracy. Scope `sensitivity` of prune calls it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import ClassVar

from pipeline.contracts.stage import Axis, Input, StageConfig, StageContext, StageResult
from pipeline.errors import PostconditionError, PreconditionError
from pipeline.records.artifacts import Artifact, Kind
from pipeline.records.metrics import Metric
from pipeline.reports.command_lines import SURGEON, install
from stages.prune.config import ScanConfig
from stages.prune.facts import SensitivityFacts
from stages.prune.ranking.criterion import package_of
from stages.samples.checks import (
    keras_facts_of,
    require_class_labels,
    require_classifier,
    require_finite_inputs,
    require_fit,
)

REPORT_FILE = "sensitivity-report.json"


class SensitivityStage:
    """Measure without changing anything."""

    name: ClassVar[str] = "sensitivity"
    version: ClassVar[int] = 2
    config: ClassVar[type[StageConfig]] = ScanConfig
    inputs: ClassVar[Mapping[str, Input]] = {"model": Input(("keras-model",))}
    outputs: ClassVar[tuple[Kind, ...]] = ("sensitivity-report",)
    axis: ClassVar[Axis | None] = None
    seeded: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("baseline_accuracy", "share", lower_is_better=False, needs_labels=True),
        Metric("points", "count", lower_is_better=None),
    )
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "h5py", "numpy")

    def splits(self, config: ScanConfig) -> tuple[str, ...]:
        ranked_by = config.split_of_criterion
        return tuple(dict.fromkeys((config.scan_split, *((ranked_by,) if ranked_by else ()))))

    def packages_of(self, config: ScanConfig) -> tuple[str, ...]:
        """Return the distribution of a criterion that is not ours."""
        return package_of(config.criterion)

    def labels_for(self, config: ScanConfig) -> tuple[str, str] | None:
        """Return that labels are needed: a scan of accuracy always does."""
        return "sensitivity", "leave it out: it measures accuracy"

    def requires(self, config: ScanConfig, inputs: Mapping[str, Artifact]) -> None:
        if find_spec("kerassurgeon") is None:
            raise PreconditionError("pruning needs kerassurgeon, which is not installed", hint=install(*SURGEON))
        require_classifier(keras_facts_of(inputs["model"]))

    def run(self, context: StageContext[ScanConfig]) -> StageResult:
        from stages.keras.stored import own_model
        from stages.keras.tensorflow import tensorflow_action
        from stages.prune.sensitivity.scan import scan

        config = context.config
        facts = keras_facts_of(context.inputs["model"])
        splits = {name: context.data(name) for name in self.splits(config)}
        for name, split in splits.items():
            require_fit(split, facts)
            require_finite_inputs(split)
            splits[name] = split.of_output(facts.outputs[0].name)
        for split in splits.values():
            require_class_labels(split, "a scan of accuracy")
        with tensorflow_action(context.seed, context.threads):
            model = own_model(context, "model")  # a separate copy: its weights are masked and restored
            ranked_by = splits.get(config.split_of_criterion or "")
            scanned = scan(
                model,
                config,
                splits[config.scan_split],
                ranked_by,
                context.seed,
                context.work_dir,
                context.events.advanced,
            )
        file = context.write(REPORT_FILE, scanned.report.to_json(), "application/json")
        points = sum(len(group.points) for group in scanned.report.groups)
        scan_facts = SensitivityFacts(groups=len(scanned.report.groups), points=points, samples=scanned.report.samples)
        metrics = {"baseline_accuracy": scanned.report.baseline_accuracy, "points": float(points)}
        return StageResult((Artifact(files=(file,), facts=scan_facts),), metrics, resumed=scanned.resumed)

    def ensures(self, context: StageContext[ScanConfig], result: StageResult) -> None:
        """Rely on `scan`: it measured the baseline again, which would differ if weights had not been restored."""
        if not 0 <= result.metrics["baseline_accuracy"] <= 1:
            raise PostconditionError("the accuracy is not a share of the samples", where="sensitivity")
