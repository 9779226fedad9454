"""The load stage: the recipe's model, in the normal form that all later stages read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pipeline.artifacts import Artifact, Kind
from pipeline.errors import PostconditionError
from pipeline.recipe import Application
from pipeline.stage import Input, StageConfig, StageContext, StageResult

TOLERANCE = 1e-6


class LoadConfig(StageConfig):
    """`application` is filled in from the recipe's `model` where that is no file."""

    application: Application | None = None


class LoadStage:
    """The model file or application → keras-model."""

    name: ClassVar[str] = "load"
    version: ClassVar[int] = 1
    config: ClassVar[type[StageConfig]] = LoadConfig
    inputs: ClassVar[Mapping[str, Input]] = {}
    outputs: ClassVar[tuple[Kind, ...]] = ("keras-model",)
    axis: ClassVar[str | None] = None
    seeded: ClassVar[bool] = True  # an application without weights starts from random ones
    metrics: ClassVar[tuple[str, ...]] = ("translation_difference",)
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "h5py")

    def splits(self, config: LoadConfig) -> tuple[str, ...]:
        return ()

    def unsupported(self, axis: str) -> str | None:
        return None

    def requires(self, config: LoadConfig, inputs: Mapping[str, Artifact]) -> None:
        """Nothing: what can be wrong with a model is found by reading it."""

    def run(self, context: StageContext[LoadConfig]) -> StageResult:
        from stages.keras_format import keras_facts
        from stages.load.formats import load_model
        from stages.stored_models import write_checked
        from stages.tf_runtime import tensorflow_action

        with tensorflow_action(context.seed, context.threads):
            loaded = load_model(context.config.application or context.source_file())
            for note in loaded.notes:
                context.events.warned(note)
            file, difference = write_checked(context, loaded.model)
            artifact = Artifact(files=(file,), facts=keras_facts(loaded.model))
        return StageResult((artifact,), {"translation_difference": difference})

    def ensures(self, context: StageContext[LoadConfig], result: StageResult) -> None:
        """The stored model computes what the loaded one did, on random inputs."""
        difference = result.metrics["translation_difference"]
        if not difference <= TOLERANCE:
            what = f"the stored model differs from the loaded one by {difference:.1e} (relative)"
            where = context.config.application.application if context.config.application else str(context.source_file())
            raise PostconditionError(what, where=where, hint="its layers do not survive saving: look at custom layers")
