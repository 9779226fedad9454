"""Train with Keras' own loop and callbacks, so that a killed training resumes bit-identically."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.data import Split
from pipeline.errors import PreconditionError
from pipeline.system import interruption
from stages.finetune.augment import training_transform, validation_transform
from stages.finetune.batches import Failures, steps_per_epoch, training_batches, validation_batches
from stages.finetune.channel_lasso import ChannelLasso
from stages.finetune.checkpoints import Checkpoints
from stages.finetune.checks import class_weights, require_blendable, require_images, require_no_plan
from stages.finetune.config import FinetuneConfig
from stages.finetune.distill import learner
from stages.finetune.masking import MaskedModel
from stages.finetune.objective import Objectives, objectives
from stages.finetune.optimizers import make_optimizer
from stages.finetune.session import History, Progress, Session, first_that_counts
from stages.finetune.trainee import frozen, needs_scaled_losses, strategy_scope, trainee_of
from stages.keras.normal_form import copy_model, put_weights
from stages.keras.sparsity import SparsityPlan
from stages.keras.types import KerasModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

VALIDATION_BATCH = 256
PROGRESS_INTERVAL_S = 0.1


@dataclass(frozen=True)
class TrainingResult:
    """Hold the result: the model has the weights of `best_epoch`, `validation_loss` is measured on it again.

    Epochs count from 1; 0 is the weights before training, whose validation figures are in `start` unless they do not
    count. `resumed_from` counts the epochs that a killed run had finished.
    """

    model: KerasModel
    history: History
    start: dict[str, float]
    best_epoch: int
    validation_loss: float
    resumed_from: int

    def of_best(self, figure: str) -> float:
        """Return a figure of the history at the best epoch. Raises KeyError if there is none of this name."""
        return self.history[figure][self.best_epoch - 1] if self.best_epoch else self.start[figure]


def fine_tune(
    model: KerasModel,
    config: FinetuneConfig,
    train: Split,
    validation: Split,
    seed: int,
    checkpoints: Checkpoints | None = None,
    progress: Progress = lambda *_: None,
    plan: SparsityPlan | None = None,
    teacher: KerasModel | None = None,
    progress_interval_s: float = PROGRESS_INTERVAL_S,
) -> TrainingResult:
    """Train `model` in place, or leave it as it is if no epoch is better on the validation data.

    Weights that `plan` selects are kept at zero, or become zero.

    `teacher` is the model to distill from; it is not changed. Raises PreconditionError if settings, model and data
    don't fit together, PostconditionError when the loss is no longer finite, and KeyboardInterrupt after the step in
    which it was asked to stop.
    """
    require_images(train, config.augment)
    require_blendable(model, config)
    require_no_plan(plan, config)
    if len(model.outputs) == 1:  # targets may use its name, but don't have to
        train, validation = (split.of_output(model.output_names[0]) for split in (train, validation))
    steps, failures = steps_per_epoch(len(train), config.batch), Failures()
    with strategy_scope(config), _trainee(model, config, plan) as (trainee, masked):
        goals = objectives(model, train, validation, config)
        learning = _learner(trainee, teacher, config, goals, train, seed)
        _compile(learning, config, goals, steps)
        first = first_that_counts(config, plan)
        session = Session(learning, config, steps, seed, checkpoints, masked, first=first)
        resumed_from = session.resume()
        transform = training_transform(config, goals.shares, _weights_of_classes(config, train, goals))
        to_validate = validation_transform(goals.shares)
        held_out = validation_batches(validation, max(config.batch, VALIDATION_BATCH), to_validate, failures)
        callbacks = session.callbacks(progress, progress_interval_s)
        if config.regularize:
            lasso = ChannelLasso(trainee, config.regularize, steps * config.epochs)
            callbacks.insert(0, lasso.callback(learning.optimizer))  # those after it see the weights that it leaves
        with interruption.between_steps(), failures.raised():
            session.measure_start(held_out, callbacks, progress)
            if session.epoch < config.epochs and not session.stopped:
                learning.fit(
                    training_batches(train, config.batch, seed, session.epoch, config.epochs, transform, failures),
                    validation_data=held_out,
                    initial_epoch=session.epoch,
                    epochs=config.epochs,
                    steps_per_epoch=steps,
                    callbacks=callbacks,
                    verbose=0,
                )
            # Keras does this only at the end of `fit`, and there is none if all epochs were trained before a kill.
            learning.set_weights(session.best_weights)
            loss = float(learning.evaluate(held_out, verbose=0, return_dict=True)["loss"])
    return TrainingResult(model, session.history, session.start, session.best_epoch, loss, resumed_from)


@contextmanager
def _trainee(
    model: KerasModel, config: FinetuneConfig, plan: SparsityPlan | None
) -> Iterator[tuple[KerasModel, MaskedModel | None]]:
    """Yield what is trained instead of the model, frozen and wrapped as requested; `model` gets its weights."""
    trainee = trainee_of(model, config)
    with frozen(trainee, config.freeze, batch_norm=config.freeze_batch_norm):
        masked = MaskedModel(trainee, plan) if plan else None
        yield (masked.model if masked else trainee), masked
        if masked:
            masked.put_back()
    if trainee is not model:
        put_weights(model, trainee.get_weights())


def _weights_of_classes(
    config: FinetuneConfig, train: Split, goals: Objectives
) -> NDArray[Any] | dict[str, NDArray[Any]] | None:
    """Return the weight of each class, by output if there are several; None if all count equally."""
    classes = {goal.output: goal.size for goal in goals.labelled if goal.task == "classes" and train.labelled}
    return goals.shaped({name: class_weights(config, train.of_output(name), size) for name, size in classes.items()})


def _learner(
    trainee: KerasModel, teacher: KerasModel | None, config: FinetuneConfig, goals: Objectives, train: Split, seed: int
) -> KerasModel:
    """Return what Keras fits: the trainee, or a wrapper of it that learns from the teacher."""
    if config.distill is None:
        return trainee
    if teacher is None:
        raise PreconditionError("distillation needs a teacher", where="finetune.distill", hint="give the source model")
    teacher = copy_model(teacher) if config.strategy else teacher  # variables belong to the strategy's scope
    return learner(trainee, teacher, config.distill, goals, labelled=train.labelled, seed=seed)


def _compile(learning: KerasModel, config: FinetuneConfig, goals: Objectives, steps: int) -> None:
    optimizer = make_optimizer(config, steps, learning, scaled=needs_scaled_losses(config))
    learning.compile(optimizer, goals.loss, metrics=goals.metrics, loss_weights=goals.loss_weights)
    optimizer.build(learning.trainable_variables)  # restored variables must exist
