"""Implement the recalibrate stage: a cheap step after pruning, alone or before fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from pipeline.contracts.stage import Axis, Input, StageConfig, StageContext, StageResult
from pipeline.errors import PostconditionError, PreconditionError
from pipeline.records.artifacts import Artifact, Kind
from pipeline.records.metrics import Metric
from stages.keras.inputs import by_input
from stages.samples.checks import keras_facts_of, require_finite_inputs, require_fit

if TYPE_CHECKING:
    from pipeline.data import Split


class RecalibrateConfig(StageConfig):
    """Set on what data batch-normalization statistics are measured again; labels are not used."""

    samples: int = Field(1024, ge=2, description="how many samples; all, where the split has fewer")
    batch: int = Field(128, ge=2, description="samples a batch: the bigger, the nearer to the statistics of all")
    data_split: Literal["train", "calibration"] = Field("train", description="whose samples")


class RecalibrateStage:
    """Convert keras-model → keras-model with other moving means and variances, and nothing else changed."""

    name: ClassVar[str] = "recalibrate"
    version: ClassVar[int] = 3
    config: ClassVar[type[StageConfig]] = RecalibrateConfig
    inputs: ClassVar[Mapping[str, Input]] = {"model": Input(("keras-model",))}
    outputs: ClassVar[tuple[Kind, ...]] = ("keras-model",)
    axis: ClassVar[Axis | None] = None
    seeded: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("batch_normalisations", "count", lower_is_better=None),
        Metric("mean_shift", "", lower_is_better=None, told="means moved {:.2f} std"),
    )
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "h5py", "numpy")

    def splits(self, config: RecalibrateConfig) -> tuple[str, ...]:
        return (config.data_split,)

    def requires(self, config: RecalibrateConfig, inputs: Mapping[str, Artifact]) -> None:
        """Check nothing: nothing can be known before the model is read."""

    def run(self, context: StageContext[RecalibrateConfig]) -> StageResult:
        from stages.keras.normal_form import keras_facts
        from stages.keras.sparsity import plan_files, plan_of
        from stages.keras.stored import own_model, write_model
        from stages.keras.tensorflow import tensorflow_action
        from stages.recalibrate.statistics import batch_normalizations, recalibrate

        data = context.data(context.config.data_split)
        require_fit(data, keras_facts_of(context.inputs["model"]), labels=False)
        require_finite_inputs(data)
        with tensorflow_action(context.seed, context.threads):
            model = own_model(context, "model")
            norms = batch_normalizations(model)
            if not norms:
                raise PreconditionError(
                    "the model has no batch normalization", where="recalibrate", hint="leave the stage out"
                )
            shift = recalibrate(model, _batches(context, data))
            files = (write_model(context, model), *plan_files(context, plan_of(context)))
            artifact = Artifact(files=files, facts=keras_facts(model))
        return StageResult((artifact,), {"batch_normalisations": float(len(norms)), "mean_shift": shift})

    def ensures(self, context: StageContext[RecalibrateConfig], result: StageResult) -> None:
        """Check that the statistics are finite."""
        if not math.isfinite(result.metrics["mean_shift"]):
            raise PostconditionError(
                "the statistics are not numbers",
                where="recalibrate",
                hint="look at the data and at the model's weights",
            )


def _batches(context: StageContext[RecalibrateConfig], data: Split) -> Iterator[Any]:
    """Draw samples over the whole split: in a file sorted by class, a batch in order would be of one class."""
    import numpy as np

    count = min(context.config.samples, len(data))
    names = [spec.name for spec in keras_facts_of(context.inputs["model"]).inputs]
    picked = np.random.default_rng(context.seed).permutation(len(data))[:count]
    for start in range(0, count, context.config.batch):
        indices = picked[start : start + context.config.batch]
        arrays = by_input(data.take(indices)[0], names)
        yield arrays if len(arrays) > 1 else arrays[0]
        done = start + len(indices)
        context.events.advanced(done, count, "samples", f"{done}/{count}")
