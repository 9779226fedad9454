"""Run Keras' callbacks with the state that determines how training continues, and store that state.

Bit-identical resuming requires the weights, every optimizer variable (the step is one), the learning rate, and the
counters of ReduceLROnPlateau and EarlyStopping. The data order, augmentation and the generators of dropout follow from
seed and epoch alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from pipeline.errors import PostconditionError
from pipeline.system import interruption
from stages.finetune.checkpoints import Checkpoint, Checkpoints
from stages.finetune.config import FinetuneConfig
from stages.finetune.masking import MaskedModel
from stages.keras.sparsity import SparsityPlan
from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasLayer, KerasModel, TfTensor

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tensorflow.data import Dataset
    from tf_keras.callbacks import Callback

Progress = Callable[[float, float, str, str], None]  # done and total epochs, what, detail
History = dict[str, list[float]]
Logs: TypeAlias = Any  # what Keras passes to its callbacks: numbers or tensors by name, or None
PLATEAU_STATE = ("best", "wait", "cooldown_counter")
STOPPING_STATE = ("best", "wait", "best_epoch", "stopped_epoch")
SHORT_NAMES = {"accuracy": "acc"}
HINT = "lower finetune.learning_rate, or bound gradients by finetune.clip"


def first_that_counts(config: FinetuneConfig, plan: SparsityPlan | None) -> int:
    """Return the first epoch that may be kept, from 1, or 0 if the weights before training may be kept as well."""
    if config.regularize is not None:
        return config.epochs  # the validation loss would choose an earlier one, whose channels have not shrunk yet
    if plan is not None and plan.reached_at > 0:
        return min(config.epochs, math.ceil(plan.reached_at * config.epochs) + 1)  # earlier ones have too few zeros
    # The quantizers of quantization-aware training have seen no data at the start: their ranges are arbitrary.
    return 1 if config.quantization_aware else 0


class Session:
    """Hold a compiled model with its callbacks; between epochs `epoch` counts finished ones.

    The weights before training are epoch 0. If they count, `start` has their validation figures under the names that
    the history uses, and a trained epoch is kept only if its validation loss is lower. `first` is the first epoch that
    counts.
    """

    def __init__(
        self,
        model: KerasModel,
        config: FinetuneConfig,
        steps: int,
        seed: int,
        checkpoints: Checkpoints | None,
        masked: MaskedModel | None = None,
        *,
        first: int = 0,
    ) -> None:
        self.model, self.steps = model, steps
        self.epoch, self.stopped = 0, False
        self.history: History = {}
        self.start: dict[str, float] = {}
        # The start's weights while no epoch is better. Taken before `resume` overwrites them: no checkpoint holds them.
        self._unbeaten = model.get_weights() if first == 0 else None
        self._config, self._seed, self._masked, self._checkpoints = config, seed, masked, checkpoints
        self._restored: tuple[Checkpoint, list[NDArray[Any]] | None] | None = None
        self._random_layers: list[KerasLayer] | None = None
        self._plateau = _plateau(config)
        # Always there, with a patience that never ends if none is set: it also keeps the best weights.
        self.stopping = import_keras().callbacks.EarlyStopping(
            patience=config.early_stopping or config.epochs + 1,
            restore_best_weights=True,
            start_from_epoch=max(first - 1, 0),  # Keras counts from 0
        )

    @property
    def best_epoch(self) -> int:
        """Return the epoch with the best weights, from 1; 0 if no epoch is better than the start."""
        return 0 if self._unbeaten else int(self.stopping.best_epoch) + 1

    @property
    def best_weights(self) -> list[NDArray[Any]]:
        """Return the weights of the best epoch."""
        weights: list[NDArray[Any]] = self._unbeaten or self.stopping.best_weights
        return weights

    def measure_start(self, held_out: Dataset, callbacks: Sequence[Callback], progress: Progress) -> None:
        """Measure the weights before training on the validation data, unless they don't count or a kill came later.

        A loss that is not a finite number does not count either: training will say where it comes from.
        """
        if self._unbeaten is None or self.epoch:
            return
        found = self.model.evaluate(held_out, callbacks=callbacks, verbose=0, return_dict=True)
        if not math.isfinite(found["loss"]):
            self._unbeaten = None
        else:
            self.start = {f"val_{name}": float(value) for name, value in found.items()}
            words = (f"val {_short(name)} {value:.3f}" for name, value in found.items())
            progress(0.0, self._config.epochs, f"epoch 0/{self._config.epochs}", " ".join(words))

    def _compare_with_start(self) -> None:
        """Free the start's weights as soon as an epoch is better: the best loss never rises again."""
        if not self.start or self.stopping.best < self.start["val_loss"]:
            self._unbeaten = None

    def callbacks(self, progress: Progress, interval_s: float) -> list[Callback]:
        """Return the callbacks in the order to run at the end of an epoch: schedules first, the checkpoint last."""
        masking = self._masked.callbacks(self.steps, self._config.epochs) if self._masked else []
        teller = _Teller(self._config.epochs, self.steps, progress, interval_s)
        watch = _watch_class()(self, teller)
        return [callback for callback in (*masking, self._plateau, self.stopping, watch) if callback is not None]

    def resume(self) -> int:
        """Resume from the newest whole checkpoint, if there is one; returns how many epochs it had finished."""
        checkpoint = self._checkpoints.latest() if self._checkpoints else None
        if checkpoint is None or self._checkpoints is None:
            return 0
        best = checkpoint if checkpoint.best == checkpoint.epoch else self._checkpoints.read(checkpoint.best)
        self._restored = checkpoint, _numbered(best, "weight") if best else None
        self.epoch, self.stopped, self.history = (
            checkpoint.epoch,
            checkpoint.state["stopped"],
            checkpoint.state["history"],
        )
        self.start = checkpoint.state["start"]
        self.model.set_weights(_numbered(checkpoint, "weight"))
        for variable, value in zip(self.model.optimizer.variables, _numbered(checkpoint, "optimizer"), strict=True):
            variable.assign(value)
        if "learning_rate" in checkpoint.state:
            self.model.optimizer.learning_rate.assign(checkpoint.state["learning_rate"])
        self.restore_callbacks()
        return checkpoint.epoch

    def restore_callbacks(self) -> None:
        """Restore the state of Keras' callbacks, which forget it when training begins."""
        if self._restored is None:
            return
        checkpoint, best_weights = self._restored
        state = checkpoint.state
        for callback, kept in ((self.stopping, state["stopping"]), (self._plateau, state.get("plateau", {}))):
            for name, value in kept.items():
                # The checkpoint holds them all as floats; Keras' counters and epochs are whole numbers.
                setattr(callback, name, value if name == "best" else int(value))
        self.stopping.best_weights = best_weights  # None before the first epoch that counts
        self._compare_with_start()

    def begin_epoch(self, epoch: int) -> None:
        """Reseed the generator of every random layer from seed, epoch and the layer's place."""
        self.epoch = epoch
        if self._random_layers is None:  # to find them, TensorFlow searches everything attached to the model
            self._random_layers = [layer for layer in self.model.submodules if hasattr(layer, "_random_generator")]
        for index, layer in enumerate(self._random_layers):
            generator = getattr(layer._random_generator, "_generator", None)  # noqa: SLF001 - Keras has no public way
            if generator is not None:
                # Different for all epochs and layers below 1,000,003.
                generator.reset_from_seed((self._seed * 1_000_003 + epoch) * 1_000_003 + index)

    def end_epoch(self, epoch: int, logs: dict[str, TfTensor]) -> None:
        """Keep the epoch's results. PostconditionError if a value is not a finite number; then nothing is kept."""
        if not math.isfinite(logs["val_loss"]):
            what = f"the validation loss became {float(logs['val_loss'])} in epoch {epoch + 1}"
            raise PostconditionError(what, where="finetune", hint=HINT)
        self._compare_with_start()
        best = None if self.stopping.best_weights is None else int(self.stopping.best_epoch) + 1
        # EarlyStopping has just copied the same arrays.
        weights = self.stopping.best_weights if best == epoch + 1 else self.model.get_weights()
        self._require_numbers(weights, epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        if self._checkpoints:
            self._checkpoints.save(self._checkpoint(epoch + 1, best, weights))

    def _require_numbers(self, weights: list[NDArray[Any]], epoch: int) -> None:
        """Check the weights too: a loss can stay finite while they don't, as on some CPUs ReLU turns NaN into zero."""
        import numpy as np

        for variable, value in zip(self.model.weights, weights, strict=True):
            if not np.isfinite(value).all():
                what = f"the weights of {variable.name.partition(':')[0]} became no numbers in epoch {epoch + 1}"
                raise PostconditionError(what, where="finetune", hint=HINT)

    def _checkpoint(self, epoch: int, best: int | None, weights: list[NDArray[Any]]) -> Checkpoint:
        arrays = {f"weight-{i}": value for i, value in enumerate(weights)}
        arrays |= {f"optimizer-{i}": v.numpy() for i, v in enumerate(self.model.optimizer.variables)}
        state = {
            "history": self.history,
            "start": self.start,
            "stopped": bool(self.model.stop_training),
            # `best` is infinite until an epoch counts; Python's json writes that, and reads it back.
            "stopping": {name: float(getattr(self.stopping, name)) for name in STOPPING_STATE},
        }
        if self._plateau is not None:
            state["plateau"] = {name: float(getattr(self._plateau, name)) for name in PLATEAU_STATE}
            state["learning_rate"] = float(self.model.optimizer.learning_rate.numpy())
        return Checkpoint(epoch, best, state, arrays)


class _Teller:
    """Report progress now and then, and check every step's loss then: doing so each time would slow training down."""

    def __init__(self, epochs: int, steps: int, progress: Progress, interval_s: float) -> None:
        self._epochs, self._steps, self._progress, self._interval_s = epochs, steps, progress, interval_s
        self._unseen: list[TfTensor] = []  # losses of the last steps, each a mean over the epoch so far
        self._told_at = 0.0

    def step(self, epoch: int, batch: int, logs: dict[str, TfTensor], history: History) -> None:
        """Record a finished step (from 0). PostconditionError if its loss or an earlier one is not a finite number."""
        self._unseen.append(logs["loss"])
        now = time.monotonic()
        if batch + 1 < self._steps and now - self._told_at < self._interval_s:
            return
        self._told_at = now
        losses, self._unseen = [float(loss) for loss in self._unseen], []
        for step, loss in enumerate(losses, start=batch + 2 - len(losses)):
            if not math.isfinite(loss):
                what = f"the loss became {loss} in epoch {epoch + 1}, step {step} of {self._steps}"
                raise PostconditionError(what, where="finetune", hint=HINT)
        self._progress(
            epoch + (batch + 1) / self._steps,
            self._epochs,
            f"epoch {epoch + 1}/{self._epochs}",
            f"batch {batch + 1}/{self._steps} {_figures(logs, history)}",
        )


def _figures(logs: dict[str, TfTensor], history: History) -> str:
    """Format `loss 0.312 acc 0.901 val acc 0.880`."""
    words = [f"{_short(name)} {float(value):.3f}" for name, value in logs.items()]
    metrics = [name for name in history if name.startswith("val_") and name != "val_loss"]
    words += [f"val {_short(name[4:])} {history[name][-1]:.3f}" for name in metrics]
    return " ".join(words)


def _short(name: str) -> str:
    return SHORT_NAMES.get(name, name)


@cache  # TensorFlow keeps every class that it has seen: so there is only one, and it holds no training
def _watch_class() -> Any:
    class Watch(import_keras().callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def __init__(self, session: Session, teller: _Teller) -> None:
            super().__init__()
            self._session, self._teller = session, teller
            self._supports_tf_logs = True  # or Keras would copy all logs at each batch

        def on_train_begin(self, logs: Logs = None) -> None:
            # This callback is the last one, so that Keras' own have just forgotten their state when it gives it back.
            self._session.restore_callbacks()

        def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
            self._session.begin_epoch(epoch)

        def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
            self._teller.step(self._session.epoch, batch, logs, self._session.history)
            interruption.check()

        def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
            interruption.check()

        def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
            self._session.end_epoch(epoch, logs)
            interruption.check()

    return Watch


def _plateau(config: FinetuneConfig) -> Callback | None:
    if config.schedule != "reduce_on_plateau":
        return None
    settings = config.plateau
    return import_keras().callbacks.ReduceLROnPlateau(
        factor=settings.factor, patience=settings.patience, min_lr=settings.min_learning_rate
    )


def _numbered(checkpoint: Checkpoint, prefix: str) -> list[NDArray[Any]]:
    count = sum(name.startswith(f"{prefix}-") for name in checkpoint.arrays)
    return [checkpoint.arrays[f"{prefix}-{i}"] for i in range(count)]
