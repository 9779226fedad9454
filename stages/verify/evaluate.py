"""The evaluate stage: a Keras model's accuracy on the test split. The planner adds one after every Keras model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pipeline.artifacts import Artifact, EvaluationFacts, Kind
from pipeline.errors import PostconditionError
from pipeline.stage import Input, StageConfig, StageContext, StageResult
from stages.data_checks import keras_facts_of, require_classifier, require_fit
from stages.keras_format import MODEL_FILE
from stages.verify.config import EvaluateConfig
from stages.verify.metrics import count_correct, wilson_interval


class EvaluateStage:
    """Measures; changes nothing."""

    name: ClassVar[str] = "evaluate"
    version: ClassVar[int] = 1
    config: ClassVar[type[StageConfig]] = EvaluateConfig
    inputs: ClassVar[Mapping[str, Input]] = {"model": Input(("keras-model",))}
    outputs: ClassVar[tuple[Kind, ...]] = ("evaluation",)
    axis: ClassVar[str | None] = None
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "params", "macs", "size_bytes")
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "numpy")

    def splits(self, config: EvaluateConfig) -> tuple[str, ...]:
        return ("test",)

    def unsupported(self, axis: str) -> str | None:
        return None

    def requires(self, config: EvaluateConfig, inputs: Mapping[str, Artifact]) -> None:
        require_classifier(keras_facts_of(inputs["model"]))

    def run(self, context: StageContext[EvaluateConfig]) -> StageResult:
        from stages.stored_models import shared_model
        from stages.tf_runtime import tensorflow_action
        from stages.verify.predict import predict

        facts, split = keras_facts_of(context.inputs["model"]), context.data("test")
        require_fit(split, facts)

        def progress(done: int, total: int) -> None:
            context.events.advanced(done, total, "test samples", f"{done}/{total}")

        with tensorflow_action(context.seed, context.threads):
            model = shared_model(context, "model")
            outputs = predict(model, split, context.config.batch, progress)
        require_finite(outputs, "the model")
        correct = count_correct(outputs, split.y)
        accuracy = correct / len(split)
        return StageResult(
            outputs=(Artifact(files=(), facts=EvaluationFacts(samples=len(split), metrics={"accuracy": accuracy})),),
            metrics={
                "accuracy": accuracy,
                "params": float(facts.params),
                "macs": float(facts.macs),
                "size_bytes": float(context.inputs["model"].file(MODEL_FILE).size),
            },
            intervals={"accuracy": wilson_interval(correct, len(split))},
        )

    def ensures(self, context: StageContext[EvaluateConfig], result: StageResult) -> None:
        """Nothing was transformed; `run` refuses outputs that are not finite."""


def require_finite(outputs: Any, whose: str) -> None:
    """PostconditionError, naming the first sample, where outputs (N, …) hold NaN or infinity."""
    import numpy as np

    finite = np.isfinite(np.reshape(outputs, (len(outputs), -1))).all(axis=1)
    if not finite.all():
        raise PostconditionError(
            f"{int((~finite).sum())} outputs of {whose} are not finite, first that of test sample {finite.argmin()}",
            hint="look for NaN in the weights: secateur inspect MODEL",
        )
