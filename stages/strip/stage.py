"""The strip stage: a model as it will be deployed, with the same outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pipeline.artifacts import Artifact, Kind
from pipeline.errors import PostconditionError
from pipeline.stage import Input, StageConfig, StageContext, StageResult

TOLERANCE = 1e-6


class StripConfig(StageConfig):
    """strip has no settings."""


class StripStage:
    """keras-model → keras-model, without wrappers, training-only layers, regularisers, and any plan of sparsity."""

    name: ClassVar[str] = "strip"
    version: ClassVar[int] = 1
    config: ClassVar[type[StageConfig]] = StripConfig
    inputs: ClassVar[Mapping[str, Input]] = {"model": Input(("keras-model",))}
    outputs: ClassVar[tuple[Kind, ...]] = ("keras-model",)
    axis: ClassVar[str | None] = None
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]] = ("removed", "output_difference")
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "h5py", "tensorflow-model-optimization")

    def splits(self, config: StripConfig) -> tuple[str, ...]:
        return ()

    def unsupported(self, axis: str) -> str | None:
        return None

    def requires(self, config: StripConfig, inputs: Mapping[str, Artifact]) -> None:
        """Nothing: any model can be stripped."""

    def run(self, context: StageContext[StripConfig]) -> StageResult:
        from stages.keras_format import keras_facts, random_inputs, relative_difference
        from stages.sparsity import plan_of
        from stages.stored_models import shared_model, write_model
        from stages.strip.layers import strip_model
        from stages.tf_runtime import tensorflow_action

        with tensorflow_action(context.seed, context.threads):
            model = shared_model(context, "model")
            plan = plan_of(context)
            if plan and plan.reached_at:
                context.events.warned("the sparsity that prune asked for comes with fine-tuning, and there was none")
            stripped = strip_model(model)
            inputs = random_inputs(model)
            difference = relative_difference(model(inputs, training=False), stripped.model(inputs, training=False))
            artifact = Artifact(files=(write_model(context, stripped.model),), facts=keras_facts(stripped.model))
        return StageResult((artifact,), {"removed": float(len(stripped.removed)), "output_difference": difference})

    def ensures(self, context: StageContext[StripConfig], result: StageResult) -> None:
        """Stripping changed no output."""
        difference = result.metrics["output_difference"]
        if not difference <= TOLERANCE:
            raise PostconditionError(f"stripping changed the outputs by {difference:.1e} (relative)", where="strip")
