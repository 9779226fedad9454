"""The verify stage: an exported file beside the Keras model that it was made of, on real data.

It knows files only: what export writes, a runtime reads. All of the test split goes through both, for accuracy; how
near the outputs are is told on some of it. Files run sample by sample, as on a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pipeline.artifacts import Artifact, EvaluationFacts, Kind, ONNXFacts, ParityFacts, Scheme, TFLiteFacts
from pipeline.data import Split
from pipeline.errors import PostconditionError, PreconditionError
from pipeline.stage import Input, StageConfig, StageContext, StageResult
from stages.data_checks import keras_facts_of, require_classifier, require_fit
from stages.verify.config import Tolerance, VerifyConfig
from stages.verify.evaluate import require_finite
from stages.verify.metrics import count_correct, wilson_interval

BATCH = 256


class VerifyStage:
    """Compares; changes nothing."""

    name: ClassVar[str] = "verify"
    version: ClassVar[int] = 1
    config: ClassVar[type[StageConfig]] = VerifyConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "export": Input(("tflite-model", "onnx-model")),
        "reference": Input(("keras-model",)),
    }
    outputs: ClassVar[tuple[Kind, ...]] = ("parity-report", "evaluation")
    axis: ClassVar[str | None] = None
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]] = (
        "accuracy",
        "accuracy_drop_reference",
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
        require_classifier(keras_facts_of(inputs["reference"]))
        if len(inputs["export"].files) != 1:
            raise PreconditionError(f"an export is one file, this one has {len(inputs['export'].files)}")

    def run(self, context: StageContext[VerifyConfig]) -> StageResult:
        split = context.data("test")
        require_fit(split, keras_facts_of(context.inputs["reference"]))
        reference = _reference_outputs(context, split)
        actual = _export_outputs(context, split)
        require_finite(reference, "the reference")
        require_finite(actual, "the exported file")
        if actual.shape != reference.shape:
            raise PostconditionError(f"the file's outputs are {actual.shape}, the reference's {reference.shape}")
        parity = _parity(reference, actual, context.config.samples)
        correct = count_correct(actual, split.y)
        accuracy = correct / len(split)
        metrics = {
            "accuracy": accuracy,
            "accuracy_drop_reference": count_correct(reference, split.y) / len(split) - accuracy,
            "max_abs_diff": parity.max_abs_diff,
            "mean_abs_diff": parity.mean_abs_diff,
            "cosine": parity.cosine,
        }
        if parity.top1_agreement is not None:
            metrics["top1_agreement"] = parity.top1_agreement
        evaluation = EvaluationFacts(samples=len(split), metrics={"accuracy": accuracy})
        return StageResult(
            outputs=(Artifact(files=(), facts=parity), Artifact(files=(), facts=evaluation)),
            metrics=metrics,
            intervals={"accuracy": wilson_interval(correct, len(split))},
        )

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
        allowed, drop = context.config.max_accuracy_drop, result.metrics["accuracy_drop_reference"]
        if allowed is not None and drop > allowed:
            raise PostconditionError(
                f"accuracy is {drop:.4f} below the reference's, {allowed:.4f} is allowed; the outputs differ most for "
                f"test sample {parity.worst_sample}",
                where=where,
                hint="more calibration samples, a finer scheme, or another verify.max_accuracy_drop",
            )


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


def _reference_outputs(context: StageContext[VerifyConfig], split: Split) -> Any:
    from stages.stored_models import shared_model
    from stages.tf_runtime import tensorflow_action
    from stages.verify.predict import predict

    with tensorflow_action(context.seed, context.threads):
        model = shared_model(context, "reference")
        return predict(model, split, BATCH, lambda done, total: _advance(context, done, total, "Keras"))


def _export_outputs(context: StageContext[VerifyConfig], split: Split) -> Any:
    import numpy as np

    from stages.runtimes import load_exported

    export = context.inputs["export"]
    loaded = load_exported(export.kind, context.read("export", export.files[0].name).read_bytes(), context.threads)
    facts = keras_facts_of(context.inputs["reference"])
    parts, done = [], 0
    for inputs, _ in split.batches(BATCH):
        parts.append(loaded.run({facts.inputs[0].name: inputs})[facts.outputs[0].name])
        done += len(inputs)
        _advance(context, done, len(split), export.kind.removesuffix("-model"))
    return np.concatenate(parts)


def _advance(context: StageContext[VerifyConfig], done: int, total: int, runtime: str) -> None:
    context.events.advanced(done, total, "verification samples", f"{runtime} {done}/{total}")


def _parity(reference: Any, actual: Any, samples: int) -> ParityFacts:
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
        top1_agreement=top1_agreement(a, b) if a.shape[1] > 1 else None,
        reference_max_abs=float(np.abs(a).max()),
        worst_sample=int(picked[worst_sample(a, b)]),
    )


def _scheme(export: Artifact) -> Scheme:
    if not isinstance(export.facts, TFLiteFacts | ONNXFacts):
        raise PreconditionError(f"an exported model is wanted, this is a {export.kind}")
    return export.facts.scheme
