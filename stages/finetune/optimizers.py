"""Make the optimizers and learning-rate schedules that settings name. A schedule depends on the step alone."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from stages.finetune.config import FinetuneConfig
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.keras.types import KerasModel, TfTensor

if TYPE_CHECKING:
    from tf_keras.optimizers import Optimizer
    from tf_keras.optimizers.schedules import LearningRateSchedule


def make_optimizer(
    config: FinetuneConfig, steps_per_epoch: int, model: KerasModel, *, scaled: bool = False
) -> Optimizer:
    """Return an unbuilt Keras optimizer for `model`; with `scaled`, losses are, to keep float16 gradients."""
    optimizers = import_keras().optimizers
    settings: dict[str, Any] = {}
    if config.momentum:
        settings["momentum"] = config.momentum
    if config.nesterov:
        settings["nesterov"] = True
    if config.weight_decay is not None:
        settings["weight_decay"] = config.weight_decay
    if config.clip:
        settings |= {"global_clipnorm": config.clip.norm, "clipvalue": config.clip.value}
    kinds = {"adam": optimizers.Adam, "adamw": optimizers.AdamW, "sgd": optimizers.SGD, "rmsprop": optimizers.RMSprop}
    optimizer = kinds[config.optimizer](learning_rate(config, steps_per_epoch), **settings)
    optimizer.exclude_from_weight_decay(var_list=[v for v in model.trainable_variables if len(v.shape) < 2])
    return import_keras().mixed_precision.LossScaleOptimizer(optimizer) if scaled else optimizer


def learning_rate(config: FinetuneConfig, steps_per_epoch: int) -> float | LearningRateSchedule:
    """Return a number if only the plateau changes it, else a Keras schedule over steps."""
    schedules = import_keras().optimizers.schedules
    full, warmup = config.learning_rate, round(config.warmup * steps_per_epoch)
    rate: float | LearningRateSchedule = full
    match config.schedule:
        case "cosine":
            rate = schedules.CosineDecay(full, steps_per_epoch * config.epochs - warmup)
        case "step":
            every = config.step.every * steps_per_epoch
            rate = schedules.ExponentialDecay(full, every, config.step.factor, staircase=True)
        case "exponential":
            rate = schedules.ExponentialDecay(full, steps_per_epoch, config.exponential.factor)
    return warmed_up(rate, full, warmup) if warmup else rate


def warmed_up(rate: float | LearningRateSchedule, full: float, steps: int) -> float | LearningRateSchedule:
    """Return `rate`, starting after `steps` steps in which the learning rate rises linearly to `full`."""
    return _warm_up_class()(rate, full, steps)


@cache  # TensorFlow keeps every class that it has seen: so there is only one
def _warm_up_class() -> Any:
    tf = import_tensorflow()

    class WarmUp(import_keras().optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]  # has no types
        def __init__(self, rate: float | LearningRateSchedule, full: float, steps: int) -> None:
            self._rate, self._full, self._steps = rate, full, steps

        def __call__(self, step: TfTensor) -> TfTensor:
            now, rate = tf.cast(step, tf.float32), self._rate
            after = rate(now - self._steps) if callable(rate) else tf.constant(rate, tf.float32)
            # Plus one, or the first step would be taken at a rate of 0.
            return tf.where(now < self._steps, self._full * (now + 1) / self._steps, after)

        def get_config(self) -> dict[str, Any]:
            return {}

    return WarmUp
