"""Determine what is learned from the task of the data and the model: the loss, the metric, and the form of labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pipeline.data import Split, Task
from pipeline.errors import PreconditionError
from pipeline.recipe.errors import nearest
from stages.finetune.config import FinetuneConfig
from stages.keras.losses import (
    RegressionLoss,
    classification_loss,
    gives_logits,
    is_binary,
    multilabel_loss,
    regression_loss,
)
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.keras.types import KerasModel, TfTensor

if TYPE_CHECKING:
    from tf_keras.losses import Loss as KerasLoss
    from tf_keras.metrics import Metric as KerasMetric

Value = TypeVar("Value")

LOSSES: dict[Task, tuple[str, ...]] = {
    "classes": ("cross_entropy",),
    "multilabel": ("binary_cross_entropy",),
    "regression": ("mse", "mae", "huber"),
    "unlabelled": (),
}


@dataclass(frozen=True)
class Objective:
    """Describe what one output learns. `loss` and `metric` are Keras', None without labels.

    With `dense`, class labels are shares, (N, `size`). `logits` says whether the outputs are logits; those of a
    regression are neither logits nor probabilities. `numbers` is Keras' loss between plain numeric outputs.
    """

    output: str
    size: int
    task: Task
    loss: KerasLoss | None
    metric: KerasMetric | None
    dense: bool
    logits: bool
    numbers: Any = None

    @property
    def exclusive(self) -> bool:
        """Return whether exactly one of several classes is right, as far as the outputs tell."""
        return self.task in ("classes", "unlabelled")

    @property
    def shares(self) -> int | None:
        """Return the number of outputs that labels are distributed over, or None if they stay class numbers."""
        return self.size if self.dense else None


@dataclass(frozen=True)
class Objectives:
    """Describe what each output of a model learns, in the model's order; outputs without targets have no loss.

    Labels, losses and metrics are mappings by output name for several outputs, and have no name for a single one:
    `shaped` produces either form.
    """

    each: tuple[Objective, ...]
    loss_weights: dict[str, float] | None = None

    @property
    def labelled(self) -> tuple[Objective, ...]:
        """Return those that learn from labels."""
        return tuple(objective for objective in self.each if objective.loss is not None)

    def shaped(self, by_output: Mapping[str, Value | None]) -> Value | dict[str, Value] | None:
        """Return values by the name of each labelled output, in Keras' form; None if no output has one."""
        if all(value is None for value in by_output.values()):
            return None
        if len(self.each) == 1:
            return by_output[self.each[0].output]
        return {name: value for name, value in by_output.items() if value is not None}

    @property
    def loss(self) -> KerasLoss | dict[str, KerasLoss] | None:
        """Return the loss for Keras' `compile`."""
        return self.shaped({objective.output: objective.loss for objective in self.labelled})

    @property
    def metrics(self) -> list[KerasMetric] | dict[str, KerasMetric] | None:
        """Return the metrics for Keras' `compile`."""
        by_output = self.shaped({objective.output: objective.metric for objective in self.labelled})
        return [by_output] if by_output is not None and len(self.each) == 1 else by_output

    @property
    def shares(self) -> int | dict[str, int] | None:
        """Return, for transforms of labels, the number of outputs that they are distributed over."""
        return self.shaped({objective.output: objective.shares for objective in self.labelled})


def objectives(model: KerasModel, train: Split, validation: Split, config: FinetuneConfig) -> Objectives:
    """Return the objectives for the splits' targets; PreconditionError if settings and splits don't fit together."""
    several = len(model.outputs) > 1
    if train.labelled and train.output_names != validation.output_names:
        ours, theirs = (", ".join(split.output_names or ("one output",)) for split in (train, validation))
        what = f"the training data has labels for {ours}, the validation data for {theirs}"
        raise PreconditionError(what, where="finetune", hint="give both the same")
    names = list(model.output_names)
    _require_outputs_named("loss", config.loss, validation, names)
    _require_outputs_named("loss_weights", config.loss_weights, validation, names)
    _require_settings_that_fit([train.of_output(name).kind for name in names], config)
    each = []
    for index, name in enumerate(names):
        views = train.of_output(name), validation.of_output(name)
        chosen = config.loss.get(name) if isinstance(config.loss, Mapping) else config.loss
        if several and not views[1].labelled:
            each.append(_taught_alone(model, index))
        else:
            each.append(_objective(model, index, *views, config, chosen if chosen in LOSSES[views[1].kind] else None))
    return Objectives(tuple(each), config.loss_weights)


def _objective(
    model: KerasModel, index: int, train: Split, validation: Split, config: FinetuneConfig, loss: str | None
) -> Objective:
    task = validation.kind
    if train.kind not in (task, "unlabelled"):
        what = f"the training data holds {_words(train.kind)}, the validation data {_words(task)}"
        raise PreconditionError(what, where="finetune", hint="hold the validation data out of the training data")
    logits = task != "regression" and gives_logits(model, index, exclusive=task != "multilabel")
    name, size = model.output_names[index], model.outputs[index].shape[-1]
    if task == "classes":
        dense = bool(train.kind == task and (config.label_smoothing or config.mixup))
        return Objective(
            name,
            size,
            task,
            classification_loss(model, index, dense=dense),
            _accuracy(model, index, logits, dense),
            dense,
            logits,
        )
    if task == "multilabel":
        return Objective(
            name, size, task, multilabel_loss(model, index), _agreement(0.0 if logits else 0.5), False, logits
        )
    if task == "regression":
        numbers = regression_loss(cast("RegressionLoss", loss or "mse"))
        metric = import_keras().metrics.MeanAbsoluteError(name="mae")
        return Objective(name, size, task, numbers, metric, False, logits, numbers=numbers)
    return Objective(name, size, task, None, None, False, logits)


def _taught_alone(model: KerasModel, index: int) -> Objective:
    """Return the objective of an output without labels among several: only a teacher can say what it should give.

    Outputs that are not probabilities can be logits or anything: they are compared with the teacher's as plain numbers.
    """
    logits = gives_logits(model, index)
    numbers = regression_loss("mse") if logits else None
    size = model.outputs[index].shape[-1]
    return Objective(model.output_names[index], size, "unlabelled", None, None, False, logits, numbers)


def _require_outputs_named(setting: str, value: object, labelled: Split, outputs: list[str]) -> None:
    """Raise PreconditionError if a setting names an output that the model lacks, or that has no labels."""
    for name in value if isinstance(value, Mapping) else ():
        if name not in outputs:
            what = f"{name!r} is not an output of the model"
            raise PreconditionError(what, where=f"finetune.{setting}", hint=nearest(name, outputs))
        if not labelled.of_output(name).labelled:
            what = f"there are no labels for {name!r}"
            raise PreconditionError(what, where=f"finetune.{setting}", hint="only outputs with labels have a loss")


def _require_settings_that_fit(tasks: list[Task], config: FinetuneConfig) -> None:
    """Check settings against `tasks`, one per output; a setting for all of them must fit at least one."""
    labelled = [task for task in tasks if task != "unlabelled"] or tasks[:1]
    if labelled == ["unlabelled"] and config.distill is None:
        hint = "give it labels (y_train in an npz), or set finetune.distill: the unpruned model is then the teacher"
        raise PreconditionError("the training data has no labels", where="finetune", hint=hint)
    words = " and ".join(dict.fromkeys(_words(task) for task in labelled))
    losses = config.loss.values() if isinstance(config.loss, Mapping) else (config.loss,)
    for loss in losses:
        possible = [name for task in labelled for name in LOSSES[task]]
        if loss is not None and loss not in possible:
            hint = f"allowed: {', '.join(possible)}" if possible else "leave it out: there are no labels"
            raise PreconditionError(f"{loss} is not a loss for {words}", where="finetune.loss", hint=hint)
    for name, asked in (("class_weights", config.class_weights), ("label_smoothing", config.label_smoothing)):
        if asked and "classes" not in labelled:
            raise PreconditionError(f"{name} is for classes, the data holds {words}", where=f"finetune.{name}")
    if isinstance(config.class_weights, Mapping) and labelled.count("classes") > 1:
        what = "the weights of classes don't say which output's classes they are"
        raise PreconditionError(what, where="finetune.class_weights", hint="`balanced` does for several outputs")


def _words(task: Task) -> str:
    words = {"multilabel": "several labels a sample", "regression": "numbers", "unlabelled": "no labels"}
    return words.get(task, task)


def _accuracy(model: KerasModel, index: int, logits: bool, dense: bool) -> KerasMetric:
    metrics = import_keras().metrics
    if not is_binary(model, index):
        kind = metrics.CategoricalAccuracy if dense else metrics.SparseCategoricalAccuracy
        return kind(name="accuracy")
    threshold = 0.0 if logits else 0.5
    return _agreement(threshold) if dense else metrics.BinaryAccuracy(name="accuracy", threshold=threshold)


def _agreement(threshold: float) -> KerasMetric:
    """Return the share of labels that outputs above `threshold` predict correctly; a blended label is rounded."""
    tf = import_tensorflow()

    def agreement(labels: TfTensor, outputs: TfTensor) -> TfTensor:
        return tf.reduce_mean(tf.cast(tf.equal(labels > 0.5, outputs > threshold), tf.float32), axis=-1)

    return import_keras().metrics.MeanMetricWrapper(agreement, name="accuracy")
