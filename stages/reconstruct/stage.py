"""Implement the reconstruct stage: between prune and finetune, so that training begins with a network that works."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.contracts.stage import Axis, Input, StageConfig, StageContext, StageResult
from pipeline.errors import PostconditionError, PreconditionError, first_few
from pipeline.records.artifacts import Artifact, Kind
from pipeline.records.metrics import Metric
from stages.keras.inputs import by_input
from stages.keras.sparsity import PLAN_FILE
from stages.reconstruct.config import ReconstructConfig
from stages.reconstruct.facts import ReconstructionFacts
from stages.samples.checks import keras_facts_of, require_finite_inputs, require_fit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.reconstruct.report import ReconstructionReport

REPORT_FILE = "reconstruction-report.json"
WORTH_FITTING = 1e-6  # an error of less is no loss, however few the samples


class ReconstructStage:
    """Convert keras-model → keras-model with layers fitted to the source's own outputs, and a report."""

    name: ClassVar[str] = "reconstruct"
    version: ClassVar[int] = 3
    config: ClassVar[type[StageConfig]] = ReconstructConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "model": Input(("keras-model",)),
        "report": Input(("prune-report",), of="ancestor"),
        "source": Input(("keras-model",), of="taken", by=("prune-report",)),  # docs/design/reconstruction.md says why
    }
    outputs: ClassVar[tuple[Kind, ...]] = ("keras-model", "reconstruction-report")
    axis: ClassVar[Axis | None] = None
    seeded: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("layers_fitted", "count", lower_is_better=None),
        Metric("output_error_before", "share", lower_is_better=True),
        Metric("output_error", "share", lower_is_better=True, told="output error {:.2g}"),
    )
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "h5py", "numpy")

    def splits(self, config: ReconstructConfig) -> tuple[str, ...]:
        return (config.data_split,)

    def requires(self, config: ReconstructConfig, inputs: Mapping[str, Artifact]) -> None:
        """Raise PreconditionError for a model with weights that have to stay zero: new ones would not be."""
        if any(file.name == PLAN_FILE for file in inputs["model"].files):
            raise PreconditionError(
                "single weights are zero by an unstructured prune, and new weights would not be",
                where="reconstruct",
                hint="put reconstruct before the unstructured prune",
            )

    def run(self, context: StageContext[ReconstructConfig]) -> StageResult:
        import numpy as np

        from stages.keras.channels.left import left_in
        from stages.keras.normal_form import keras_facts
        from stages.keras.stored import own_model, shared_model, write_model
        from stages.keras.tensorflow import tensorflow_action
        from stages.reconstruct.reconstruction import reconstruct

        data = context.data(context.config.data_split)
        facts = keras_facts_of(context.inputs["model"])
        require_fit(data, facts, labels=False)
        require_finite_inputs(data)
        names = [spec.name for spec in facts.inputs]
        resumed = any(context.work_dir.glob("step-*.json"))

        def take(places: NDArray[np.int64]) -> list[Any]:
            return [np.asarray(array) for array in by_input(data.take(places)[0], names)]

        def heard(done: int, total: int, what: str) -> None:
            context.events.advanced(done, total, "steps", f"{what} {done}/{total}")

        with tensorflow_action(context.seed, context.threads):
            result = reconstruct(
                own_model(context, "model"),
                shared_model(context, "source"),
                left_in(context.read("report", _file_of(context.inputs["report"])).read_bytes()),
                len(data),
                take,
                context.config,
                context.seed,
                context.work_dir,
                heard,
            )
            files = (write_model(context, result.model),)
            artifact = Artifact(files=files, facts=keras_facts(result.model))
        report = result.report
        for message in _remarks(report):
            context.events.warned(message)
        document = Artifact(
            files=(context.write(REPORT_FILE, report.to_json(), "application/json"),), facts=_facts(report)
        )
        metrics = {
            "layers_fitted": float(_facts(report).fitted),
            "output_error_before": report.output_error_before,
            "output_error": report.output_error_after,
        }
        return StageResult((artifact, document), metrics, resumed=resumed)

    def ensures(self, context: StageContext[ReconstructConfig], result: StageResult) -> None:
        """Check that the network's outputs are as near to the source's as they were before, or nearer."""
        before, after = result.metrics["output_error_before"], result.metrics["output_error"]
        if not math.isfinite(after):
            raise PostconditionError(
                "the outputs are not finite", where="reconstruct", hint="look at the data and at the model's weights"
            )
        if after > before:
            raise PostconditionError(
                f"the error of the outputs rose from {before:.3g} to {after:.3g}",
                where="reconstruct",
                hint="please report this: fits that harm are taken back",
            )


def _file_of(report: Artifact) -> str:
    (file,) = report.files
    return file.name


def _facts(report: ReconstructionReport) -> ReconstructionFacts:
    return ReconstructionFacts(
        layers=len(report.layers),
        fitted=sum(fit.kept and not fit.taken_back for fit in report.layers),
        taken_back=sum(fit.taken_back for fit in report.layers),
        output_error_before=report.output_error_before,
        output_error_after=report.output_error_after,
    )


def _remarks(report: ReconstructionReport) -> list[str]:
    """Say what the user can do better, and what was not done."""
    remarks = []
    few = [fit for fit in report.layers if fit.rows < fit.unknowns and fit.error_before > WORTH_FITTING]
    if few:
        worst = max(few, key=lambda fit: fit.unknowns / max(1, fit.rows))
        needed = math.ceil(report.samples * worst.unknowns / max(1, worst.rows))
        remarks.append(
            f"{worst.layer} was fitted from {worst.rows} positions and has {worst.unknowns} weights for each output: "
            f"{needed} samples would determine them, the ridge keeps the others as they were"
            + (f" ({len(few) - 1} more like it)" if len(few) > 1 else "")
        )
    back = [fit.layer for fit in report.layers if fit.taken_back]
    if back:
        remarks.append(f"{first_few(back)} kept the weights from before: the new ones moved the network's outputs away")
    if report.not_fitted:
        kinds = ", ".join(dict.fromkeys(report.not_fitted.values()))
        remarks.append(f"{first_few(list(report.not_fitted))} read fewer channels and can't be fitted: {kinds}")
    return remarks
