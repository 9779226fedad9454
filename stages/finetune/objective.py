"""What is learned: from the task of the data and the model, the loss, the metric, and the form that labels take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

from pipeline.data import Split
from pipeline.errors import PreconditionError
from stages.finetune.config import FinetuneConfig
from stages.losses import (
    RegressionLoss,
    classification_loss,
    gives_logits,
    is_binary,
    multilabel_loss,
    regression_loss,
)
from stages.tf_runtime import import_keras, import_tensorflow

Task = Literal["classes", "multilabel", "regression", "unlabelled"]
LOSSES: dict[Task, tuple[str, ...]] = {
    "classes": ("cross_entropy",),
    "multilabel": ("binary_cross_entropy",),
    "regression": ("mse", "mae", "huber"),
    "unlabelled": (),
}


@dataclass(frozen=True)
class Objective:
    """`loss` and `metric` are Keras', None without labels. With `dense`, class labels are shares, (N, outputs).

    `logits` tells whether the model's outputs are logits; of a regression they are neither that nor probabilities.
    """

    task: Task
    loss: Any
    metric: Any
    dense: bool
    logits: bool

    @property
    def exclusive(self) -> bool:
        """Whether one of several classes is right, as far as the outputs tell."""
        return self.task in ("classes", "unlabelled")

    def shares_of(self, outputs: int) -> int | None:
        """Among how many outputs labels are shared out, or None where they stay numbers of classes."""
        return outputs if self.dense else None


def objective(model: Any, train: Split, validation: Split, config: FinetuneConfig) -> Objective:
    """The objective for the splits' targets; PreconditionError where the settings or the splits don't fit together."""
    _require_settings_that_fit(train.task, config)
    task = validation.task
    if train.task not in (task, "unlabelled"):
        what = f"the training data holds {_words(train.task)}, the validation data {_words(task)}"
        raise PreconditionError(what, where="finetune", hint="hold the validation data out of the training data")
    logits = task != "regression" and gives_logits(model, exclusive=task != "multilabel")
    if task == "classes":
        dense = bool(train.task == task and (config.label_smoothing or config.mixup))
        return Objective(task, classification_loss(model, dense=dense), _accuracy(model, logits, dense), dense, logits)
    if task == "multilabel":
        return Objective(task, multilabel_loss(model), _agreement(0.0 if logits else 0.5), False, logits)
    if task == "regression":
        loss = regression_loss(cast("RegressionLoss", config.loss or "mse"))
        return Objective(task, loss, import_keras().metrics.MeanAbsoluteError(name="mae"), False, logits)
    return Objective(task, None, None, False, logits)


def _require_settings_that_fit(task: Task, config: FinetuneConfig) -> None:
    if task == "unlabelled" and config.distill is None:
        hint = "set finetune.distill: then the unpruned model is the teacher, and no labels are needed"
        raise PreconditionError("the training data has no labels", where="finetune", hint=hint)
    if config.loss is not None and config.loss not in LOSSES[task]:
        hint = f"allowed: {', '.join(LOSSES[task])}" if LOSSES[task] else "leave it out: there are no labels"
        raise PreconditionError(f"{config.loss} is no loss for {_words(task)}", where="finetune.loss", hint=hint)
    for name, asked in (("class_weights", config.class_weights), ("label_smoothing", config.label_smoothing)):
        if asked and task != "classes":
            raise PreconditionError(f"{name} is for classes, the data holds {_words(task)}", where=f"finetune.{name}")


def _words(task: Task) -> str:
    return {"multilabel": "several labels a sample", "regression": "numbers", "unlabelled": "no labels"}.get(task, task)


def _accuracy(model: Any, logits: bool, dense: bool) -> Any:
    metrics = import_keras().metrics
    if not is_binary(model):
        kind = metrics.CategoricalAccuracy if dense else metrics.SparseCategoricalAccuracy
        return kind(name="accuracy")
    threshold = 0.0 if logits else 0.5
    return _agreement(threshold) if dense else metrics.BinaryAccuracy(name="accuracy", threshold=threshold)


def _agreement(threshold: float) -> Any:
    """The share of labels that outputs above `threshold` tell rightly; a blended label counts as the nearer of both."""
    tf = import_tensorflow()

    def agreement(labels: Any, outputs: Any) -> Any:
        return tf.reduce_mean(tf.cast(tf.equal(labels > 0.5, outputs > threshold), tf.float32), axis=-1)

    return import_keras().metrics.MeanMetricWrapper(agreement, name="accuracy")
