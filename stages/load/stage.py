"""Load the recipe's model in the normal form that all later stages read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pipeline.contracts.stage import Axis, Input, StageConfig, StageContext, StageResult
from pipeline.errors import ModelError, PostconditionError
from pipeline.recipe.model_files import FILE, MODULE, WEIGHTS, load_settings
from pipeline.recipe.model_spec import SIZES_FIELD, Application, CustomObject, FreeSizes, Model, Preprocessing
from pipeline.records.artifacts import Artifact, FileRef, Kind
from pipeline.records.metrics import Metric
from pipeline.store.file_digests import FileDigests

if TYPE_CHECKING:
    from stages.load.formats import OpenedModel

STORED_TOLERANCE = 1e-6
PREPROCESSING_FILE = "preprocessing.json"


class LoadConfig(StageConfig):
    """Hold settings filled in from the recipe's `model`; nothing is set under `load` itself.

    `samples` holds the shapes of the recipe's data, if the model may leave sizes open; neither it nor `sizes` is in the
    key if it is empty.
    """

    application: Application | None = None
    custom_objects: tuple[CustomObject, ...] = ()
    preprocess: Preprocessing = "keep"
    trust: bool = False
    sizes: FreeSizes | None = SIZES_FIELD
    samples: tuple[dict[str, tuple[int, ...]], ...] = Field((), exclude_if=lambda samples: not samples)


class LoadStage:
    """Load the model file or application → keras-model."""

    name: ClassVar[str] = "load"
    version: ClassVar[int] = 5
    config: ClassVar[type[StageConfig]] = LoadConfig
    inputs: ClassVar[Mapping[str, Input]] = {}
    outputs: ClassVar[tuple[Kind, ...]] = ("keras-model",)
    axis: ClassVar[Axis | None] = None
    seeded: ClassVar[bool] = True  # an application without weights starts from random ones
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("translation_difference", "share", lower_is_better=True),
        Metric("stored_difference", "share", lower_is_better=True),
    )
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "keras", "h5py")

    def splits(self, config: LoadConfig) -> tuple[str, ...]:
        return ()

    def opening(self, model: Model) -> LoadConfig:
        return LoadConfig().model_copy(update=load_settings(model))

    def asks_for_samples(self, config: LoadConfig, files: Mapping[str, Path], digests: FileDigests) -> bool:
        """Return whether the model may leave sizes open, which the data's then fill; needs no TensorFlow."""
        from stages.load.open_sizes import may_leave_sizes_open

        return may_leave_sizes_open(config.application, files, digests)

    def requires(self, config: LoadConfig, inputs: Mapping[str, Artifact]) -> None:
        """Check nothing: errors in a model are found by reading it."""

    def run(self, context: StageContext[LoadConfig]) -> StageResult:
        from stages.keras.normal_form import keras_facts
        from stages.keras.sparsity import plan_files
        from stages.keras.stored import write_checked
        from stages.keras.tensorflow import tensorflow_action
        from stages.load.not_finite import blame

        with tensorflow_action(context.seed, context.threads):
            loaded = _load(context)
            for note in loaded.notes:
                context.events.warned(note)
            file, stored = write_checked(context, loaded.model)
            blame(loaded.model, stored, _named(context))
            files = (file, *_preprocessing_file(context, loaded), *plan_files(context, loaded.sparsity))
            artifact = Artifact(files=files, facts=keras_facts(loaded.model))
        metrics = {"translation_difference": loaded.translation_difference, "stored_difference": stored}
        return StageResult((artifact,), metrics)

    def ensures(self, context: StageContext[LoadConfig], result: StageResult) -> None:
        """Check that the stored model computes what the loaded one does; `load_model` compares it with its original."""
        stored = result.metrics["stored_difference"]
        # Not `>`: NaN has to fail.
        if not stored <= STORED_TOLERANCE:
            what = f"stored_difference is {stored:.1e} (relative), at most {STORED_TOLERANCE:.0e} is right"
            hint = "its layers do not survive: look at custom layers"
            raise PostconditionError(what, where=_named(context), hint=hint)


def _named(context: StageContext[LoadConfig]) -> str:
    """Return the user's name for the model."""
    return context.config.application.application if context.config.application else context.source_name()


def _load(context: StageContext[LoadConfig]) -> OpenedModel:
    """Load the recipe's model; errors use the user's names of its files, not those of their verified copies."""
    from stages.keras.free_sizes import Wanted
    from stages.load.custom_objects import check_source
    from stages.load.formats import load_model

    config = context.config
    files = {role: context.source_file(role) for role in context.roles}
    try:
        loaded = load_model(
            config.application or files[FILE],
            weights=files.get(WEIGHTS),
            custom_objects=config.custom_objects,
            preprocess=config.preprocess,
            trust=config.trust,
            wanted=Wanted(config.sizes, config.samples),
        )
    except (ModelError, PostconditionError) as error:
        where = error.where or ""
        for role, copy in files.items():
            where = where.replace(str(copy), context.source_name(role))
        raise type(error)(error.what, where=where or None, hint=error.hint) from error
    for role, copy in files.items():
        if role.startswith(MODULE):
            # After the import: a module that was edited since the plan is in no key.
            check_source(role.removeprefix(MODULE), copy)
    return loaded


def _preprocessing_file(context: StageContext[LoadConfig], loaded: OpenedModel) -> tuple[FileRef, ...]:
    """Return the layers that were split off, as a file next to the model."""
    if not loaded.preprocessing:
        return ()
    data = json.dumps({"schema_version": 1, "layers": loaded.preprocessing}, sort_keys=True, default=list).encode()
    return (context.write(PREPROCESSING_FILE, data, "application/json"),)
