"""Verify an exported file: compare it with the Keras model that it was made from, on real data.

The stage knows files only: what export writes, a runtime reads. All of the test split goes through both, for the
metrics; outputs are compared on some of it and on synthetic inputs. Files run sample by sample, as on a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pipeline.contracts.stage import Axis, Input, StageConfig, StageContext, StageResult, Upstream
from pipeline.data import Split
from pipeline.data.samples import Task
from pipeline.data.spec import DataSpec
from pipeline.errors import PostconditionError, PreconditionError
from pipeline.records.artifacts import Artifact, Kind
from pipeline.records.facts import ExportFacts, ParityFacts, ParityRow
from pipeline.records.metrics import Metric, metric_and_output
from pipeline.records.schemes import CALIBRATED, Scheme
from stages.formats.format import Arrays, RunsElsewhere
from stages.formats.registry import format_of_kind, packages_that_run, running_kinds
from stages.keras.inputs import as_arrays
from stages.samples.checks import keras_facts_of, labelled_outputs, require_fit, require_inputs
from stages.verify.config import VerifyConfig
from stages.verify.evaluate import evaluation_artifact, own_metrics
from stages.verify.limits import REAL, doubts, hint_of, is_real, violation
from stages.verify.metrics import (
    ACCURACY,
    DEFAULTS,
    MSE,
    QUALITY,
    Evaluation,
    are_logits,
    evaluate,
    flat,
    metrics_by_output,
    numbers_of,
)

if TYPE_CHECKING:
    from stages.verify.compare import Comparison

FLOATS: tuple[Scheme, ...] = ("float32", "float16")
# How much worse the file is than its reference, by what is compared.
CHANGES: Mapping[Metric, Metric] = {
    metric: replace(metric.compared, name=f"{metric.compared.name}_reference", of=None)
    for metric in (ACCURACY, MSE)
    if metric.compared is not None
}
FIGURES = (  # each is a figure of a ParityRow
    Metric("max_abs_diff", "", lower_is_better=True, told="max diff {:.1e}"),
    Metric("mean_abs_diff", "", lower_is_better=True),
    Metric("sqnr_db", "dB", lower_is_better=False),
    Metric("cosine", "", lower_is_better=False),
    Metric("top1_agreement", "share", lower_is_better=False),
    Metric("top5_agreement", "share", lower_is_better=False),
)


class VerifyStage:
    """Compare without changing anything."""

    name: ClassVar[str] = "verify"
    version: ClassVar[int] = 6
    config: ClassVar[type[StageConfig]] = VerifyConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "export": Input(running_kinds()),
        "reference": Input(("keras-model",), of="ancestor"),
        "quantized": Input(("quantized-model",), of="ancestor", required=False),  # whose layers the file computes
    }
    outputs: ClassVar[tuple[Kind, ...]] = ("parity-report", "evaluation")
    axis: ClassVar[Axis | None] = None
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (*QUALITY, *(CHANGES.values()), *FIGURES)
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", *packages_that_run(None))

    def packages_for(self, axis: str | None) -> tuple[str, ...]:
        return ("tensorflow", "tf-keras", *packages_that_run(axis))

    def measured(self, config: VerifyConfig, task: Task, output: str | None) -> tuple[str, ...]:
        changes = [change.name for quality, change in CHANGES.items() if quality.name in DEFAULTS.get(task, ())[:1]]
        return (*DEFAULTS.get(task, ())[:1], *changes, *numbers_of(task, config.metrics, output))

    def splits(self, config: VerifyConfig) -> tuple[str, ...]:
        return (config.data_split,)

    def filled(self, config: VerifyConfig, data: DataSpec, folder: Path) -> VerifyConfig:
        return config if config.metrics is not None else config.model_copy(update={"metrics": data.metrics})

    def refuses(self, config: VerifyConfig, axis: str, upstream: Upstream, folder: Path) -> str | None:
        file_format = format_of_kind(upstream.kind)
        if isinstance(file_format, RunsElsewhere):
            return file_format.elsewhere
        return None if file_format.kind in running_kinds() else f"nothing on this machine runs {file_format.name} files"

    def labels_for(self, config: VerifyConfig) -> tuple[str, str] | None:
        """Return what needs labels, and what to do without; None if outputs are only compared."""
        asked = [
            name for name in ("max_accuracy_drop", "max_mse_ratio", "metrics") if getattr(config, name) is not None
        ]
        return (f"verify.{asked[0]}", "leave it out: outputs are compared without labels") if asked else None

    def requires(self, config: VerifyConfig, inputs: Mapping[str, Artifact]) -> None:
        keras_facts_of(inputs["reference"])
        export = inputs["export"]
        if len(export.files) not in format_of_kind(export.kind).file_counts:
            raise PreconditionError(f"{len(export.files)} files can't be verified as {export.kind}")

    def run(self, context: StageContext[VerifyConfig]) -> StageResult:
        from stages.verify.compare import BATCH, advance
        from stages.verify.predict import shared_outputs

        split, facts = context.data(context.config.data_split), keras_facts_of(context.inputs["reference"])
        several = len(facts.outputs) > 1
        # Labels without an output's name say nothing about several outputs, and outputs can be compared without labels.
        measurable = not split.said_unlabelled and (not several or split.output_names is not None)
        if measurable:
            require_fit(split, facts)
        else:
            require_inputs(split, facts)
        outputs = shared_outputs(context, "reference", split, BATCH, partial(advance, context, runtime="Keras"))
        reference = dict(zip([spec.name for spec in facts.outputs], as_arrays(outputs), strict=True))
        comparison = _comparison(context)
        actual = comparison.on_the_split()
        rows = comparison.rows(reference, actual)
        first = rows[0]
        figures = {figure.name: getattr(first, figure.name) for figure in FIGURES}
        metrics = {name: value for name, value in figures.items() if value is not None}
        parity = Artifact(files=(), facts=ParityFacts(rows=tuple(rows)))
        if not measurable:
            return StageResult((parity,), metrics)
        evaluation, measured = _evaluated(context, labelled_outputs(split, facts), reference, actual)
        return StageResult((parity, evaluation), {**measured.metrics, **metrics}, measured.intervals)

    def ensures(self, context: StageContext[VerifyConfig], result: StageResult) -> None:
        """Check that the file computes what its reference does, within tolerance, and no less accurately."""
        parity, scheme = result.outputs[0].facts, _scheme(context.inputs["export"])
        assert isinstance(parity, ParityFacts)
        bounds = context.config.tolerances.of(scheme)
        scales = {row.output: row.reference_max_abs for row in parity.rows if row.inputs == REAL}
        for row in parity.rows:
            for doubt in doubts(row, bounds):
                context.events.warned(doubt)
            violated = violation(row, bounds, scales[row.output])
            if violated is not None:
                comparison = _comparison(context)
                if violated.setting == "max_diff" and _is_rounding(context, comparison, row, scales[row.output]):
                    continue
                kept, setting = _keep_figures(context, parity), f"verify.tolerances.{scheme}.{violated.setting}"
                sample = f"{REAL if is_real(row.inputs) else row.inputs} sample {row.worst_sample}"
                raise PostconditionError(
                    f"{violated.said} for output {row.output!r} on {row.inputs} inputs; the worst is {sample}; "
                    f"{comparison.divergence(row, violated.limit_db)}",
                    where=context.axis,
                    hint=f"{_hint(context, comparison, row, setting)}; all figures are in {kept}",
                )
        reason = worse(result.metrics, context.config, context.axis)
        if reason:
            row = parity.rows[0]
            raise PostconditionError(
                f"{reason}; the outputs differ most for test sample {row.worst_sample}",
                where=context.axis,
                hint=_hint(context, _comparison(context), row, "another bound under verify"),
            )
        outside = _comparison(context).outside() if scheme in CALIBRATED else None
        if outside:
            context.events.warned(outside)


def _comparison(context: StageContext[VerifyConfig]) -> Comparison:
    from stages.verify.compare import Comparison

    split = context.data(context.config.data_split)
    return Comparison(context, split, keras_facts_of(context.inputs["reference"]))


def _hint(context: StageContext[VerifyConfig], comparison: Comparison, row: ParityRow, setting: str) -> str:
    """Return what can be done, by what the file's ranges and constants tell; only called after a failure."""
    scheme = _scheme(context.inputs["export"])
    return hint_of(scheme, setting, None if scheme in FLOATS else comparison.cause(row))


def _is_rounding(context: StageContext[VerifyConfig], comparison: Comparison, row: ParityRow, scale: float) -> bool:
    """Return whether an excess over `max_diff` is noise in the reference, which is then reported and not judged."""
    allowed = context.config.tolerances.of(_scheme(context.inputs["export"])).max_diff or 0.0
    if not comparison.is_rounding(row, allowed * max(row.reference_max_abs, scale)):
        return False
    context.events.warned(
        f"output {row.output!r} on {row.inputs} inputs is rounding noise in Keras itself: "
        f"the last bits of the inputs move it as far as the file is off ({row.max_abs_diff:.1e})"
    )
    return True


def _keep_figures(context: StageContext[VerifyConfig], parity: ParityFacts) -> Path:
    """Write the whole matrix as JSON to the scratch folder: a failed verification publishes nothing."""
    path = context.work_dir / "parity.json"
    path.write_text(parity.model_dump_json(indent=1))
    return path


def worse(found: Mapping[str, float], settings: VerifyConfig, where: str | None) -> str | None:
    """Return what is worse than the settings allow, or None; PostconditionError if a bound has no metric."""
    limits = (
        (CHANGES[ACCURACY].name, settings.max_accuracy_drop, "accuracy{} is {:.4f} below the reference's, {:.4f}",
         "there is no accuracy here", "max_accuracy_drop is for outputs of classes; regression has max_mse_ratio"),
        (CHANGES[MSE].name, settings.max_mse_ratio, "the mse{} is {:.4g} of the reference's, {:.4g}",
         "there is no mse here", "max_mse_ratio is for outputs of regression; classes have max_accuracy_drop"),
    )  # fmt: skip
    for metric, allowed, text, missing, hint in limits:
        if allowed is None:
            continue
        bounded = {name: value for name, value in found.items() if metric_and_output(name)[0] == metric}
        if not bounded:
            raise PostconditionError(missing, where=where, hint=hint)
        for name, value in bounded.items():
            output = metric_and_output(name)[1]
            if value > allowed:
                return text.format(f" of output {output!r}" if output else "", value, allowed) + " is allowed"
    return None


def _evaluated(
    context: StageContext[VerifyConfig],
    targets: Mapping[str, Split],
    reference: Arrays,
    actual: Arrays,
) -> tuple[Artifact, Evaluation]:
    """Return the evaluation of the file by output, and its metrics including changes from the reference."""
    names = metrics_by_output({name: seen.kind for name, seen in targets.items()}, context.config.metrics)
    evaluations, changed = {}, {}
    for output, seen in targets.items():
        compared = DEFAULTS[seen.kind][0]
        wanted = tuple(dict.fromkeys((compared, *names[output])))
        # Decided by the reference for both: probabilities of an 8-bit file need not add up to 1.
        logits = seen.kind != "regression" and are_logits(reference[output], seen.kind)
        evaluation = evaluate(actual[output], seen.y, seen.kind, wanted, own_metrics(context, wanted), logits=logits)
        before = evaluate(reference[output], seen.y, seen.kind, (compared,), logits=logits).metrics[compared]
        evaluations[output] = evaluation
        with_changes = {**evaluation.metrics, **_compared(compared, before, evaluation.metrics[compared])}
        changed[output] = Evaluation(with_changes, evaluation.intervals)
    several = len(reference) > 1
    artifact = evaluation_artifact(context, flat(evaluations, several=several), evaluations, targets)
    return artifact, flat(changed, several=several)


def _compared(metric: str, reference: float, actual: float) -> dict[str, float]:
    """Return the change of the bounded metric from the reference to the export: positive, or above 1, is worse."""
    quality, change = next((quality, change) for quality, change in CHANGES.items() if quality.name == metric)
    if quality.against_source == "drop":
        return {change.name: quality.worsening(reference, actual)}
    # Not infinite, because metrics are numbers in JSON.
    return {change.name: actual / reference if reference else 1.0 if not actual else 1e30}


def _scheme(export: Artifact) -> Scheme:
    if not isinstance(export.facts, ExportFacts):
        raise PreconditionError(f"an exported model is wanted, this is a {export.kind}")
    return export.facts.scheme
