"""Implement the finetune stage."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from pipeline.contracts.stage import Axis, Input, StageContext, StageResult
from pipeline.errors import PostconditionError, PreconditionError
from pipeline.records.artifacts import Artifact, Kind
from pipeline.records.metrics import SPARSITY, Metric, of_output
from stages.finetune.config import FinetuneConfig
from stages.finetune.facts import TrainingFacts
from stages.finetune.from_scratch import from_scratch
from stages.keras.types import KerasModel
from stages.samples.checks import keras_facts_of, require_finite_inputs, require_fit

if TYPE_CHECKING:
    from stages.finetune.aware import AwareModel
    from stages.finetune.training import TrainingResult

LOG_FILE = "training-log.json"
TOLERANCE = 1e-3


class FinetuneStage:
    """Train keras-model → keras-model with the weights of the best epoch or of the start, and the training's log.

    If the model carries a plan of sparsity, training follows it, and the outcome is a report. If the settings say
    `distill`, what the first prune of channels took is the teacher, else the source.
    """

    name: ClassVar[str] = "finetune"
    version: ClassVar[int] = 4
    config: ClassVar[type[FinetuneConfig]] = FinetuneConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "model": Input(("keras-model",)),
        "teacher": Input(("keras-model",), of="original", by=("prune-report",), when="distill"),
    }
    outputs: ClassVar[tuple[Kind, ...]] = ("keras-model", "training-log", "sparsity-report")
    axis: ClassVar[Axis | None] = None
    seeded: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("epochs", "count", lower_is_better=None),
        Metric("validation_loss", "", lower_is_better=True),
        Metric("validation_accuracy", "share", lower_is_better=False, needs_labels=True),
        Metric("validation_mae", "", lower_is_better=True, needs_labels=True),
        SPARSITY,
    )
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "tensorflow-model-optimization", "h5py", "numpy")

    def splits(self, config: FinetuneConfig) -> tuple[str, ...]:
        return ("train", "validation")

    def labels_for(self, config: FinetuneConfig) -> tuple[str, str] | None:
        """Return what needs labels, and what to do without them; None if a teacher suffices."""
        hint = "`distill: {}` under finetune learns from the unpruned model's outputs alone"
        return ("finetune", hint) if config.distill is None else None

    def from_scratch(self, trainings: Sequence[FinetuneConfig], source_epochs: int) -> FinetuneConfig:
        """Return the settings with which a network with random weights is trained as long as these together."""
        return from_scratch(trainings, source_epochs)

    def for_control(self, config: FinetuneConfig) -> FinetuneConfig:
        """Return the settings for the source: it is not to be cut, and smaller channels would be a handicap."""
        return config.model_copy(update={"regularize": None})

    def requires(self, config: FinetuneConfig, inputs: Mapping[str, Artifact]) -> None:
        from stages.finetune.checks import require_teacher

        facts = keras_facts_of(inputs["model"])
        if config.distill is not None:
            if "teacher" not in inputs:
                raise PreconditionError("distillation needs a teacher", where="finetune.distill")
            require_teacher(facts, keras_facts_of(inputs["teacher"]))

    def run(self, context: StageContext[FinetuneConfig]) -> StageResult:
        from stages.finetune.checkpoints import Checkpoints
        from stages.finetune.training import fine_tune
        from stages.keras.normal_form import keras_facts
        from stages.keras.sparsity import plan_files, plan_of, sparsity_report
        from stages.keras.stored import own_model, shared_model, write_model
        from stages.keras.tensorflow import tensorflow_action

        train, validation = context.data("train"), context.data("validation")
        for split in (train, validation):
            require_fit(split, keras_facts_of(context.inputs["model"]), labels=split.labelled)
            require_finite_inputs(split)
        config = context.config
        if len(train) < config.batch:
            what = f"{len(train)} training samples are fewer than a batch of {config.batch}: an epoch is one step"
            context.events.warned(what)
        plan = plan_of(context)
        with tensorflow_action(context.seed, context.threads):
            model = own_model(context, "model")
            aware = None
            if config.quantization_aware:
                aware = _aware(context, model)
                model, plan = aware.training, None  # the scheme keeps zeros, if they are to be kept
            teacher = shared_model(context, "teacher") if config.distill else None
            checkpoints, progress = Checkpoints(context.work_dir), context.events.advanced
            result = fine_tune(
                model, config, train, validation, context.seed, checkpoints, progress, plan, teacher=teacher
            )
            trained = aware.settle() if aware else result.model
            # The sparsity is reached now: later training only has to keep it.
            kept = plan and plan.model_copy(update={"reached_at": 0.0})
            files = (write_model(context, trained), *plan_files(context, kept))
            facts = keras_facts(trained)
            tuned = Artifact(files=files, facts=facts)
            reports = (sparsity_report(result.model, plan),) if plan else ()
        if result.best_epoch == 0:
            context.events.warned(_unimproved(result, config))
        log = Artifact(files=(context.write(LOG_FILE, _document(result), "application/json"),), facts=_facts(result))
        metrics = {"epochs": float(len(result.history["loss"])), "validation_loss": result.validation_loss}
        outputs = [spec.name for spec in facts.outputs]
        for output in outputs if len(outputs) > 1 else [None]:
            for name in ("accuracy", "mae"):
                logged = f"val_{name}" if output is None else f"val_{output}_{name}"
                if logged in result.history:
                    metrics[of_output(f"validation_{name}", output)] = result.of_best(logged)
        if plan:
            metrics["sparsity"] = facts.sparsity
        return StageResult((tuned, log, *reports), metrics, resumed=result.resumed_from > 0)

    def ensures(self, context: StageContext[FinetuneConfig], result: StageResult) -> None:
        """Check that the kept weights give the validation loss in the log."""
        logged = next(a.facts.best_validation_loss for a in result.outputs if isinstance(a.facts, TrainingFacts))
        measured = result.metrics["validation_loss"]
        # Not `>`: NaN has to fail.
        if not abs(measured - logged) <= TOLERANCE * max(1.0, abs(logged)):
            what = f"the kept weights give a validation loss of {measured:.5f}, the log says {logged:.5f}"
            raise PostconditionError(
                what, where="finetune", hint="please report this: weights of another epoch were kept"
            )


def _aware(context: StageContext[FinetuneConfig], model: KerasModel) -> AwareModel:
    """Return the model to train for int8; reports before training what tfmot leaves in float."""
    from stages.finetune.aware import aware_model

    assert context.config.quantization_aware is not None
    aware = aware_model(model, context.config.quantization_aware)
    if aware.outside:
        what = f"tfmot knows no int8 for {', '.join(aware.outside)}: they stay in float in this training"
        context.events.warned(what)
    return aware


def _unimproved(result: TrainingResult, config: FinetuneConfig) -> str:
    """Return the words for a training whose result is its start."""
    epochs, reached = len(result.history["loss"]), min(result.history["val_loss"])
    losses = f"{result.start['val_loss']:.4f} before it, {reached:.4f} in its best epoch"
    advice = "a lower learning_rate" if config.distill else "a lower learning_rate, or `distill: {}`"
    return f"kept epoch 0 of {epochs}: training did not improve the validation loss ({losses}); try {advice}"


def _document(result: TrainingResult) -> bytes:
    document = {"best_epoch": result.best_epoch, "start": result.start, "history": result.history}
    return json.dumps(document, sort_keys=True, indent=1).encode()


def _facts(result: TrainingResult) -> TrainingFacts:
    return TrainingFacts(
        epochs=len(result.history["loss"]),
        best_epoch=result.best_epoch,
        best_validation_loss=result.of_best("val_loss"),
    )
