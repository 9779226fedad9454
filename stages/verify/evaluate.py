"""Evaluate a Keras model's metrics on the test split. The planner adds this stage after every Keras model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.contracts.stage import Axis, Input, StageConfig, StageContext, StageResult
from pipeline.data import Split
from pipeline.data.samples import Task
from pipeline.data.spec import DataSpec
from pipeline.errors import PostconditionError, numbered
from pipeline.records.artifacts import Artifact, Kind
from pipeline.records.facts import EvaluationFacts
from pipeline.records.metrics import COUNTED, SIZE, Metric, counted
from stages.keras.inputs import as_arrays
from stages.keras.normal_form import MODEL_FILE
from stages.samples.checks import keras_facts_of, labelled_outputs, require_finite_inputs, require_fit
from stages.verify.config import EvaluateConfig
from stages.verify.metrics import QUALITY, Evaluation, OwnMetric, evaluate, flat, metrics_by_output, numbers_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFUSION_FILE = "confusion-matrix.json"


class EvaluateStage:
    """Measure without changing anything."""

    name: ClassVar[str] = "evaluate"
    version: ClassVar[int] = 4
    config: ClassVar[type[StageConfig]] = EvaluateConfig
    inputs: ClassVar[Mapping[str, Input]] = {"model": Input(("keras-model",))}
    outputs: ClassVar[tuple[Kind, ...]] = ("evaluation",)
    axis: ClassVar[Axis | None] = None
    follows: ClassVar[Kind] = "keras-model"
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (*COUNTED, *QUALITY, SIZE)
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "numpy")

    def following(self, data: DataSpec | None, *, source: bool) -> EvaluateConfig | None:
        """Return the data's metrics; None where there is no test split. The preprocessing is checked on the source."""
        if data is None or not data.judged:
            return None
        return EvaluateConfig(metrics=data.metrics, check_preprocess=source and data.check_preprocess)

    def measured(self, config: EvaluateConfig, task: Task, output: str | None) -> tuple[str, ...]:
        return numbers_of(task, config.metrics, output)

    def splits(self, config: EvaluateConfig) -> tuple[str, ...]:
        return ("test",)

    def requires(self, config: EvaluateConfig, inputs: Mapping[str, Artifact]) -> None:
        keras_facts_of(inputs["model"])

    def run(self, context: StageContext[EvaluateConfig]) -> StageResult:
        from stages.verify.chance import check_source
        from stages.verify.predict import shared_outputs

        facts, split = keras_facts_of(context.inputs["model"]), context.data("test")
        require_fit(split, facts, labels=not split.said_unlabelled)
        targets = labelled_outputs(split, facts)
        names = metrics_by_output({name: seen.kind for name, seen in targets.items()}, context.config.metrics)
        own = own_metrics(context, (metric for metrics in names.values() for metric in metrics))

        def progress(done: int, total: int) -> None:
            context.events.advanced(done, total, "test samples", f"{done}/{total}")

        outputs = shared_outputs(context, "model", split, context.config.batch, progress)
        by_name = dict(zip([o.name for o in facts.outputs], as_arrays(outputs), strict=True))
        for values in by_name.values():
            require_finite(values, lambda sample: _first_not_finite(context, split, sample))
        evaluations = {
            name: evaluate(by_name[name], seen.y, seen.kind, names[name], own) for name, seen in targets.items()
        }
        if context.config.check_preprocess:
            check_source(context, split, by_name, targets)
        measured = flat(evaluations, several=len(by_name) > 1)
        return StageResult(
            outputs=(evaluation_artifact(context, measured, evaluations, targets),),
            metrics={
                **measured.metrics,
                **counted(facts),
                "size_bytes": float(context.inputs["model"].file(MODEL_FILE).size),
            },
            intervals=measured.intervals,
        )

    def ensures(self, context: StageContext[EvaluateConfig], result: StageResult) -> None:
        """Check nothing, since nothing was transformed; `run` refuses outputs that are not finite."""


def own_metrics(context: StageContext[Any], names: Iterable[str]) -> dict[str, OwnMetric]:
    """Return the user's functions among the metrics."""
    return {name: context.function(name) for name in names if ":" in name}


def evaluation_artifact(
    context: StageContext[Any], measured: Evaluation, found: Mapping[str, Evaluation], targets: Mapping[str, Split]
) -> Artifact:
    """Return the metrics as facts, and the confusion matrix of each output that has one as a file."""
    samples = len(next(iter(targets.values()), ()))
    matrices = {
        output: evaluation.confusion for output, evaluation in found.items() if evaluation.confusion is not None
    }
    files = []
    for index, (output, counts) in enumerate(matrices.items()):
        names = targets[output].classes or tuple(str(number) for number in range(len(counts)))
        document = {"schema_version": 1, "rows": "actual", "columns": "predicted", "classes": names}
        if len(found) > 1:
            document["output"] = output
        data = json.dumps({**document, "counts": counts}, ensure_ascii=False, indent=1).encode()
        name = CONFUSION_FILE if len(found) == 1 else CONFUSION_FILE.replace(".", f"-{index}.")
        files.append(context.write(name, data, "application/json"))
    return Artifact(files=tuple(files), facts=EvaluationFacts(samples=samples, metrics=measured.metrics))


def require_finite(outputs: NDArray[Any], layer_of: Callable[[int], str | None]) -> None:
    """Raise PostconditionError, naming the first sample and layer, if a model's outputs (N, …) hold NaN or infinity."""
    import numpy as np

    finite = np.isfinite(np.reshape(outputs, (len(outputs), -1))).all(axis=1)
    if not finite.all():
        sample = int(finite.argmin())
        raise PostconditionError(
            f"outputs of the model are not finite on {numbered(int((~finite).sum()), 'sample')}, first on test sample "
            f"{sample}; the first layer with NaN or infinity is {layer_of(sample)!r}",
            hint="look for NaN in its weights, and for what overflows on this sample: secateur inspect MODEL",
        )


def _first_not_finite(context: StageContext[Any], split: Split, sample: int) -> str | None:
    """Return the layer that turns a sample into NaN or infinity; DataError if samples hold them already."""
    from stages.keras.layer_calls import first_not_finite
    from stages.keras.precision import reference_in_float32

    require_finite_inputs(split)
    return first_not_finite(reference_in_float32(context, "model"), split.inputs(sample, sample + 1))
