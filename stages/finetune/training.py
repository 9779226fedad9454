"""Training with Keras' own loop and callbacks, in a form that goes on bit by bit where it was killed.

What has to be restored for that: weights, every optimizer variable, the learning rate, and the counters of
ReduceLROnPlateau and EarlyStopping. The data order and the generators of dropout follow from seed and epoch alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.data import Split
from pipeline.errors import PostconditionError
from stages.finetune.batches import steps_per_epoch, training_batches, validation_batches
from stages.finetune.checkpoints import Checkpoint, Checkpoints
from stages.finetune.config import FinetuneConfig
from stages.finetune.masking import MaskedModel
from stages.losses import classification_loss, gives_logits, is_binary
from stages.sparsity import SparsityPlan
from stages.tf_runtime import import_keras

Progress = Callable[[float, float, str, str], None]  # done and total epochs, what, detail
History = dict[str, list[float]]
VALIDATION_BATCH = 256
PLATEAU_STATE = ("best", "wait", "cooldown_counter")
STOPPING_STATE = ("best", "wait", "best_epoch", "stopped_epoch")


@dataclass(frozen=True)
class TrainingResult:
    """The trained model holds the weights of `best_epoch` (from 0), and `validation_loss` is measured on it anew.

    `resumed_from` counts the epochs that a killed run had finished.
    """

    model: Any
    history: History
    best_epoch: int
    validation_loss: float
    resumed_from: int


def fine_tune(
    model: Any,
    config: FinetuneConfig,
    train: Split,
    validation: Split,
    seed: int,
    checkpoints: Checkpoints | None = None,
    progress: Progress = lambda *_: None,
    plan: SparsityPlan | None = None,
) -> TrainingResult:
    """Train `model` in place; weights that `plan` says are kept at zero, or come to be.

    Raises PostconditionError when the loss stops being a number.
    """
    masked = MaskedModel(model, plan) if plan else None
    if masked:
        model = masked.model
    session = _Session(model, config, len(train), seed, masked)
    start = checkpoints.latest() if checkpoints else None
    if start is not None:
        session.restore(start)
    held_out = validation_batches(validation, max(config.batch, VALIDATION_BATCH))
    if session.epoch < config.epochs and not session.stopped:
        model.fit(
            training_batches(train, config.batch, seed, session.epoch, config.epochs),
            validation_data=held_out,
            initial_epoch=session.epoch,
            epochs=config.epochs,
            steps_per_epoch=session.steps,
            callbacks=session.callbacks(checkpoints, progress),
            verbose=0,
        )
    model.set_weights(session.stopping.best_weights)
    loss = model.evaluate(held_out, verbose=0, return_dict=True)["loss"]
    best, resumed_from = int(session.stopping.best_epoch), start.epoch if start else 0
    if masked:
        model = masked.put_back()
    return TrainingResult(model, session.history, best, float(loss), resumed_from)


class _Session:
    """A compiled model with the callbacks whose state decides how training goes on."""

    def __init__(
        self, model: Any, config: FinetuneConfig, samples: int, seed: int, masked: MaskedModel | None = None
    ) -> None:
        keras = import_keras()
        self.model, self.config, self.seed, self.masked = model, config, seed, masked
        self.steps = steps_per_epoch(samples, config.batch)
        self.epoch, self.stopped = 0, False
        self.history: History = {}
        self._restored: Checkpoint | None = None
        model.compile(_optimizer(config, self.steps), classification_loss(model), metrics=[_accuracy(model)])
        model.optimizer.build(model.trainable_variables)
        self.plateau: Any = None
        if config.schedule == "reduce_on_plateau":
            settings = config.plateau
            self.plateau = keras.callbacks.ReduceLROnPlateau(
                factor=settings.factor, patience=settings.patience, min_lr=settings.min_learning_rate
            )
        patience = config.early_stopping or config.epochs + 1
        first = masked.first_epoch_at_target(config.epochs) if masked else 0
        self.stopping = keras.callbacks.EarlyStopping(
            patience=patience, restore_best_weights=True, start_from_epoch=first
        )
        self.stopping.best_epoch, self.stopping.best_weights = 0, model.get_weights()

    def callbacks(self, checkpoints: Checkpoints | None, progress: Progress) -> list[Any]:
        """In the order in which they must see the end of an epoch: schedules first, the checkpoint last."""
        keras = import_keras()
        seeds = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, _: _seed_generators(self.model, self.seed, epoch)
        )
        # Keras' callbacks forget their state when training begins: it is put back right after.
        state = keras.callbacks.LambdaCallback(on_train_begin=lambda _: self._restore_callbacks())
        watch = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, _: setattr(self, "epoch", epoch),
            on_train_batch_end=lambda batch, logs: self._watch(batch, logs, progress),
            on_epoch_end=lambda epoch, logs: self._end_epoch(epoch, logs, checkpoints),
        )
        masking = self.masked.callbacks(self.steps, self.config.epochs) if self.masked else []
        found = (*masking, self.plateau, self.stopping, state, seeds, watch)
        return [callback for callback in found if callback is not None]

    def _watch(self, batch: int, logs: dict[str, float], progress: Progress) -> None:
        loss, of = logs["loss"], self.config.epochs
        if not math.isfinite(loss):
            what = f"the loss became {loss} in epoch {self.epoch + 1}, step {batch + 1} of {self.steps}"
            raise PostconditionError(what, where="finetune", hint="lower finetune.learning_rate")
        detail = f"batch {batch + 1}/{self.steps} loss {loss:.3f} acc {logs['accuracy']:.3f}"
        if "val_accuracy" in self.history:
            detail += f" val acc {self.history['val_accuracy'][-1]:.3f}"
        progress(self.epoch + (batch + 1) / self.steps, of, f"epoch {self.epoch + 1}/{of}", detail)

    def _end_epoch(self, epoch: int, logs: dict[str, float], checkpoints: Checkpoints | None) -> None:
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        if checkpoints:
            checkpoints.save(self._checkpoint(epoch + 1))

    def _checkpoint(self, epoch: int) -> Checkpoint:
        arrays = {f"weight-{i}": value for i, value in enumerate(self.model.get_weights())}
        arrays |= {f"optimizer-{i}": v.numpy() for i, v in enumerate(self.model.optimizer.variables)}
        arrays |= {f"best-{i}": value for i, value in enumerate(self.stopping.best_weights or [])}
        state = {
            "history": self.history,
            "stopped": bool(self.model.stop_training),
            "stopping": {name: float(getattr(self.stopping, name)) for name in STOPPING_STATE},
        }
        if self.plateau is not None:
            state["plateau"] = {name: float(getattr(self.plateau, name)) for name in PLATEAU_STATE}
            state["learning_rate"] = float(self.model.optimizer.learning_rate.numpy())
        return Checkpoint(epoch, state, arrays)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint: weights and optimizer now, callbacks when training begins."""
        self._restored, self.epoch = checkpoint, checkpoint.epoch
        self.stopped, self.history = checkpoint.state["stopped"], checkpoint.state["history"]
        self.model.set_weights(_numbered(checkpoint, "weight"))
        for variable, value in zip(self.model.optimizer.variables, _numbered(checkpoint, "optimizer"), strict=True):
            variable.assign(value)
        if "learning_rate" in checkpoint.state:
            self.model.optimizer.learning_rate.assign(checkpoint.state["learning_rate"])
        self._restore_callbacks()

    def _restore_callbacks(self) -> None:
        if self._restored is None:
            return
        state = self._restored.state
        for callback, kept in ((self.stopping, state["stopping"]), (self.plateau, state.get("plateau", {}))):
            for name, value in kept.items():
                setattr(callback, name, value if name == "best" else int(value))
        self.stopping.best_weights = _numbered(self._restored, "best") or None  # none yet: before the first that counts


def _numbered(checkpoint: Checkpoint, prefix: str) -> list[Any]:
    count = sum(name.startswith(f"{prefix}-") for name in checkpoint.arrays)
    return [checkpoint.arrays[f"{prefix}-{i}"] for i in range(count)]


def _optimizer(config: FinetuneConfig, steps: int) -> Any:
    optimizers = import_keras().optimizers
    rate: Any = config.learning_rate
    if config.schedule == "cosine":
        rate = optimizers.schedules.CosineDecay(config.learning_rate, steps * config.epochs)
    kinds = {"adam": optimizers.Adam, "sgd": optimizers.SGD, "rmsprop": optimizers.RMSprop}
    return kinds[config.optimizer](rate)


def _accuracy(model: Any) -> Any:
    metrics = import_keras().metrics
    if is_binary(model):
        return metrics.BinaryAccuracy(name="accuracy", threshold=0.0 if gives_logits(model) else 0.5)
    return metrics.SparseCategoricalAccuracy(name="accuracy")


def _seed_generators(model: Any, seed: int, epoch: int) -> None:
    """Start the generator of every random layer anew, from seed, epoch and the layer's place."""
    for place, layer in enumerate(layer for layer in model.submodules if hasattr(layer, "_random_generator")):
        generator = getattr(layer._random_generator, "_generator", None)  # noqa: SLF001 - Keras has no public way
        if generator is not None:
            generator.reset_from_seed((seed * 1_000_003 + epoch) * 1_000_003 + place)
