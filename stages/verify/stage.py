"""The verify stage: an exported file beside the Keras model that it was made of, on real data.

It knows files only: what export writes, a runtime reads. All of the test split goes through both, for the metrics; how
near the outputs are is told on some of it. Files run sample by sample, as on a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

from pipeline.artifacts import Artifact, Kind, ONNXFacts, ParityFacts, Scheme, TFLiteFacts
from pipeline.data import Split
from pipeline.errors import PostconditionError, PreconditionError
from pipeline.stage import Input, StageConfig, StageContext, StageResult
from stages.data_checks import keras_facts_of, require_fit, require_one_output
from stages.samples import by_input
from stages.verify.config import Tolerance, VerifyConfig
from stages.verify.evaluate import MEASURES, evaluation_artifact, own_metrics, require_finite
from stages.verify.metrics import are_logits, evaluate, metrics_for

BATCH = 256


class VerifyStage:
    """Compares; changes nothing."""

    name: ClassVar[str] = "verify"
    version: ClassVar[int] = 2
    config: ClassVar[type[StageConfig]] = VerifyConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "export": Input(("tflite-model", "onnx-model")),
        "reference": Input(("keras-model",)),
    }
    outputs: ClassVar[tuple[Kind, ...]] = ("parity-report", "evaluation")
    axis: ClassVar[str | None] = None
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]] = (
        *MEASURES,
        "accuracy_drop_reference",
        "mse_ratio_reference",
        "max_abs_diff",
        "mean_abs_diff",
        "cosine",
        "top1_agreement",
    )
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "ai-edge-litert", "onnxruntime", "numpy")

    def splits(self, config: VerifyConfig) -> tuple[str, ...]:
        return ("test",)

    def unsupported(self, axis: str) -> str | None:
        return None

    def requires(self, config: VerifyConfig, inputs: Mapping[str, Artifact]) -> None:
        require_one_output(keras_facts_of(inputs["reference"]))
        if len(inputs["export"].files) != 1:
            raise PreconditionError(f"an export is one file, this one has {len(inputs['export'].files)}")

    def run(self, context: StageContext[VerifyConfig]) -> StageResult:
        from stages.verify.predict import shared_outputs

        split = context.data("test")
        require_fit(split, keras_facts_of(context.inputs["reference"]))
        progress = partial(_advance, context, runtime="Keras")
        reference = shared_outputs(context, "reference", split, BATCH, progress)
        actual = _export_outputs(context, split)
        require_finite(reference, "the reference")
        require_finite(actual, "the exported file")
        if actual.shape != reference.shape:
            raise PostconditionError(f"the file's outputs are {actual.shape}, the reference's {reference.shape}")
        parity = _parity(reference, actual, context.config.samples, classes=split.task == "classes")
        compared = "mse" if split.task == "regression" else "accuracy"
        names = metrics_for(split.task, context.config.metrics)
        names = tuple(dict.fromkeys((compared, *names)))
        logits = split.task != "regression" and are_logits(reference, split.task)
        found = evaluate(actual, split.y, split.task, names, own_metrics(context, names), logits=logits)
        before = evaluate(reference, split.y, split.task, (compared,), logits=logits).metrics[compared]
        metrics = {
            **found.metrics,
            **_compared(compared, before, found.metrics[compared]),
            "max_abs_diff": parity.max_abs_diff,
            "mean_abs_diff": parity.mean_abs_diff,
            "cosine": parity.cosine,
        }
        if parity.top1_agreement is not None:
            metrics["top1_agreement"] = parity.top1_agreement
        evaluation = evaluation_artifact(context, found, split)
        return StageResult((Artifact(files=(), facts=parity), evaluation), metrics, found.intervals)

    def ensures(self, context: StageContext[VerifyConfig], result: StageResult) -> None:
        """The file computes what its reference computes, within the scheme's tolerance, and no less accurately."""
        parity = result.outputs[0].facts
        assert isinstance(parity, ParityFacts)
        limit = limit_of(_scheme(context.inputs["export"]), context.config.tolerance)
        where = context.axis
        if not limit.holds(parity):
            raise PostconditionError(
                f"{limit.describe(parity)}; the worst test sample is {parity.worst_sample}",
                where=where,
                hint=limit.hint,
            )
        found, settings = result.metrics, context.config
        said = None
        if settings.max_accuracy_drop is not None:
            drop = found.get("accuracy_drop_reference")
            if drop is None:
                raise PostconditionError("regression has no accuracy", where=where, hint="set verify.max_mse_ratio")
            if drop > settings.max_accuracy_drop:
                said = f"accuracy is {drop:.4f} below the reference's, {settings.max_accuracy_drop:.4f} is allowed"
        if settings.max_mse_ratio is not None:
            ratio = found.get("mse_ratio_reference")
            if ratio is None:
                raise PostconditionError("only regression has an mse", where=where, hint="set verify.max_accuracy_drop")
            if ratio > settings.max_mse_ratio:
                said = f"the mse is {ratio:.4g} of the reference's, {settings.max_mse_ratio:.4g} is allowed"
        if said:
            raise PostconditionError(
                f"{said}; the outputs differ most for test sample {parity.worst_sample}",
                where=where,
                hint="more calibration samples, a finer scheme, or another bound under verify",
            )


def _compared(metric: str, reference: float, actual: float) -> dict[str, float]:
    """How the metric that is bounded changed from the reference to the export: positive, or above 1, is worse."""
    if metric == "accuracy":
        return {"accuracy_drop_reference": reference - actual}
    return {"mse_ratio_reference": actual / reference if reference else 1.0 if not actual else 1e30}


@dataclass(frozen=True, slots=True)
class Limit:
    """The bound of a scheme: on the largest relative difference from above, or on the mean cosine from below."""

    figure: Literal["relative difference", "cosine"]
    allowed: float
    hint: str

    def holds(self, parity: ParityFacts) -> bool:
        found = self._found(parity)
        return found <= self.allowed if self.figure == "relative difference" else found >= self.allowed

    def describe(self, parity: ParityFacts) -> str:
        """Which figure, what it is, what was allowed."""
        bound = "at most" if self.figure == "relative difference" else "at least"
        return f"the outputs' {self.figure} is {self._found(parity):.3g}, {bound} {self.allowed:g} is allowed"

    def _found(self, parity: ParityFacts) -> float:
        if self.figure == "cosine":
            return parity.cosine
        return parity.max_abs_diff / max(parity.reference_max_abs, 1e-30)


def limit_of(scheme: Scheme, tolerance: Tolerance) -> Limit:
    """What the tolerance settings mean for a scheme."""
    rounding = f"the file computes another function: see the layers after conversion, or verify.tolerance.{scheme}"
    ranges = "more or better calibration samples, `dynamic` or `float16`, or verify.tolerance"
    match scheme:
        case "float32":
            return Limit("relative difference", tolerance.float32_max_diff, f"{rounding}_max_diff")
        case "float16":
            return Limit("relative difference", tolerance.float16_max_diff, f"{rounding}_max_diff")
        case "dynamic":
            return Limit("cosine", tolerance.dynamic_min_cosine, "`float16`, or verify.tolerance.dynamic_min_cosine")
        case "int8":
            return Limit("cosine", tolerance.int8_min_cosine, f"{ranges}.int8_min_cosine")


def _export_outputs(context: StageContext[VerifyConfig], split: Split) -> Any:
    import numpy as np

    from stages.runtimes import load_exported

    export = context.inputs["export"]
    loaded = load_exported(export.kind, context.read("export", export.files[0].name).read_bytes(), context.threads)
    facts = keras_facts_of(context.inputs["reference"])
    parts, done = [], 0
    for inputs, _ in split.batches(BATCH):
        arrays = zip(facts.inputs, by_input(inputs, [spec.name for spec in facts.inputs]), strict=True)
        feeds = {spec.name: array.astype(spec.dtype, copy=False) for spec, array in arrays}
        parts.append(loaded.run(feeds)[facts.outputs[0].name])
        done += len(parts[-1])
        _advance(context, done, len(split), export.kind.removesuffix("-model"))
    return np.concatenate(parts)


def _advance(context: StageContext[VerifyConfig], done: int, total: int, runtime: str) -> None:
    context.events.advanced(done, total, "verification samples", f"{runtime} {done}/{total}")


def _parity(reference: Any, actual: Any, samples: int, *, classes: bool) -> ParityFacts:
    """The figures of parity on up to `samples` samples, evenly spread: splits are often sorted by class."""
    import numpy as np

    from stages.verify.parity import cosine, max_abs_diff, mean_abs_diff, top1_agreement, worst_sample

    count = len(reference)
    picked = np.arange(count) if count <= samples else np.linspace(0, count - 1, samples).astype(np.int64)
    a, b = reference[picked], actual[picked]
    return ParityFacts(
        samples=len(picked),
        max_abs_diff=max_abs_diff(a, b),
        mean_abs_diff=mean_abs_diff(a, b),
        cosine=cosine(a, b),
        top1_agreement=top1_agreement(a, b) if classes and a.shape[1] > 1 else None,
        reference_max_abs=float(np.abs(a).max()),
        worst_sample=int(picked[worst_sample(a, b)]),
    )


def _scheme(export: Artifact) -> Scheme:
    if not isinstance(export.facts, TFLiteFacts | ONNXFacts):
        raise PreconditionError(f"an exported model is wanted, this is a {export.kind}")
    return export.facts.scheme
