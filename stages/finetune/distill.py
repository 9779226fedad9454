"""Learn from a teacher, the unpruned model, by softened outputs and by intermediate features.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015 (outputs); Romero et al., "FitNets", 2015
(features). The teacher only computes; the linear maps between features are dropped with the learner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from operator import add
from typing import Any

from pipeline.errors import PreconditionError
from stages.finetune.config import Distill
from stages.finetune.masking import plain_name
from stages.finetune.objective import Objective, Objectives
from stages.keras.layer_patterns import matching
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.keras.types import KerasLayer, KerasModel, KerasTensor, TfTensor, TfTensors

# Softmax gives exact zeros in float32, whose logarithm is infinite.
SMALLEST_PROBABILITY = 1e-30
Loss = Callable[[TfTensor, TfTensor], TfTensor]  # of the teacher's and the model's outputs, one number


@dataclass(frozen=True)
class FeaturePair:
    """Pair a layer's output in the model with the teacher's, with the map (or None) from one to the other."""

    student: KerasTensor
    teacher: KerasTensor
    adapter: KerasLayer | None


def learner(
    student: KerasModel, teacher: KerasModel, settings: Distill, objectives: Objectives, *, labelled: bool, seed: int
) -> KerasModel:
    """Wrap `student` (sharing its weights) in a Keras model whose training step learns from `teacher` as well.

    Its validation loss is that of the labels; without labels (`objectives` have none) the teacher's. With `labelled`
    False training uses the teacher alone, and so does, among several outputs, one that has no labels. Compile it with
    the objectives' losses and metrics.
    """
    keras, tf = import_keras(), import_tensorflow()
    pairs = _feature_pairs(student, teacher, settings, seed)
    lesson = _Lesson(
        own=keras.Model(student.inputs, [*student.outputs, *(pair.student for pair in pairs)]),
        its=keras.Model(teacher.inputs, [*teacher.outputs, *(pair.teacher for pair in pairs)]),
        pairs=pairs,
        settings=settings,
        objectives=objectives,
        labelled=labelled,
        replicas=tf.distribute.get_strategy().num_replicas_in_sync,
    )
    return _learner_class()(student, lesson)


@dataclass(frozen=True)
class _Lesson:
    """Hold what a learner learns by. Not a Keras object: the teacher's variables must not belong to the learner."""

    own: KerasModel
    its: KerasModel
    pairs: Sequence[FeaturePair]
    settings: Distill
    objectives: Objectives
    labelled: bool
    replicas: int

    def taught(self, expected: Sequence[TfTensor], outputs: Sequence[TfTensor]) -> list[TfTensor]:
        """Return the teacher's loss of each output."""
        pairs = zip(self.objectives.each, expected, outputs, strict=True)
        return [output_loss(objective, self.settings.temperature)(its, own) for objective, its, own in pairs]

    def weighted(
        self, losses: Sequence[TfTensor], expected: Sequence[TfTensor], features: Sequence[TfTensor]
    ) -> TfTensor:
        """Combine the teacher's losses of outputs and features; labels, if an output has any, get the other weight."""
        weight, wanted = self.settings.weight, self.settings.features
        shares = [weight if self.labelled and goal.loss is not None else 1.0 for goal in self.objectives.each]
        total = _added([share * loss for share, loss in zip(shares, losses, strict=True)])
        return total + wanted.weight * feature_loss(self.pairs, expected, features) if wanted else total


@cache  # TensorFlow keeps every class that it has seen: so there is only one, and it holds no model
def _learner_class() -> Any:
    keras, tf = import_keras(), import_tensorflow()

    class Learner(import_keras().Model):  # type: ignore[misc]  # Keras has no types
        def __init__(self, student: KerasModel, lesson: _Lesson) -> None:
            super().__init__(name="learner")
            self.student, self.lesson = student, lesson
            if len(student.outputs) > 1:
                self.output_names = list(student.output_names)  # Keras finds losses and labels by these
            self.adapters = [pair.adapter for pair in lesson.pairs if pair.adapter is not None]
            self.total = keras.metrics.Mean(name="total_loss")
            self.taught = keras.metrics.Mean(name="distillation_loss")

        def call(self, inputs: TfTensors, training: bool | None = None) -> TfTensors:
            return self.student(inputs, training=training)

        def train_step(self, data: tuple[TfTensors, ...]) -> dict[str, TfTensor]:
            lesson = self.lesson
            inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
            # Outside of the tape, which would keep all of the teacher's intermediate tensors.
            expected = _listed(lesson.its(inputs, training=False))
            count = len(lesson.objectives.each)
            with tf.GradientTape() as tape:
                results = _listed(lesson.own(inputs, training=True))
                outputs = results[0] if count == 1 else results[:count]
                losses = lesson.taught(expected[:count], results[:count])
                loss = lesson.weighted(losses, expected[count:], results[count:])
                loss /= lesson.replicas  # gradients of replicas are summed; Keras' own loss accounts for that
                if lesson.labelled:
                    loss += (1 - lesson.settings.weight) * self.compute_loss(inputs, labels, outputs, weights)
            self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
            self.taught.update_state(_added(losses))
            self.total.update_state(loss * lesson.replicas)
            logs = {"loss": self.total.result(), "distillation_loss": self.taught.result()}
            if lesson.labelled:
                logs |= self._of_labels(self.compute_metrics(inputs, labels, outputs, weights))
            return logs

        def test_step(self, data: tuple[TfTensors, ...]) -> dict[str, TfTensor]:
            lesson = self.lesson
            if lesson.objectives.labelled:
                logs = super().test_step(data)
                return {"loss": logs["loss"], **self._of_labels(logs)}
            inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data)
            expected, outputs = (_listed(network(inputs, training=False)) for network in (lesson.its, self.student))
            count = len(lesson.objectives.each)
            loss = _added(lesson.taught(expected[:count], outputs))
            self.total.update_state(loss)
            return {"loss": self.total.result()}

        def _of_labels(self, logs: dict[str, TfTensor]) -> dict[str, TfTensor]:
            """Return what Keras' metrics of labels report, without the learner's own entries."""
            own = {"loss", self.total.name, self.taught.name}
            return {name: value for name, value in logs.items() if name not in own}

    return Learner


def output_loss(objective: Objective, temperature: float) -> Loss:
    """Return the distance of the model's outputs from the teacher's: a mean over the batch.

    It is the divergence of probabilities softened by `temperature`, times its square, so that gradients keep their
    scale; for regression it is the training loss.
    """
    tf = import_tensorflow()
    if objective.numbers is not None:
        # Keras refuses its own mean over the batch under a strategy that splits it
        return lambda expected, outputs: tf.reduce_mean(objective.numbers.call(expected, outputs))

    def exclusive(expected: TfTensor, outputs: TfTensor) -> TfTensor:
        its, own = (
            tf.nn.log_softmax(class_logits(values, objective.logits) / temperature) for values in (expected, outputs)
        )
        return tf.reduce_mean(tf.reduce_sum(tf.exp(its) * (its - own), axis=-1)) * temperature**2

    def independent(expected: TfTensor, outputs: TfTensor) -> TfTensor:
        its, own = (label_logits(values, objective.logits) / temperature for values in (expected, outputs))
        chances, entropy = tf.sigmoid(its), tf.nn.sigmoid_cross_entropy_with_logits
        # Without the teacher's own entropy, so that equal outputs have the loss 0.
        return tf.reduce_mean(entropy(chances, own) - entropy(chances, its)) * temperature**2

    return lambda expected, outputs: (exclusive if objective.exclusive and outputs.shape[-1] > 1 else independent)(
        expected, outputs
    )


def class_logits(outputs: TfTensor, already: bool) -> TfTensor:
    """Return logits of exclusive classes: outputs, or the logarithms of probabilities."""
    tf = import_tensorflow()
    outputs = tf.cast(outputs, tf.float32)
    return outputs if already else tf.math.log(tf.maximum(outputs, SMALLEST_PROBABILITY))


def label_logits(outputs: TfTensor, already: bool) -> TfTensor:
    """Return logits of labels that don't exclude each other: outputs, or the logarithms of odds."""
    tf = import_tensorflow()
    outputs = tf.cast(outputs, tf.float32)
    if already:
        return outputs
    # 1 - p comes in multiples of 6e-8 in float32: below Keras' epsilon (1e-7) it is no number to take a logarithm of.
    odds = tf.maximum(outputs, SMALLEST_PROBABILITY), tf.maximum(1 - outputs, import_keras().backend.epsilon())
    return tf.math.log(odds[0]) - tf.math.log(odds[1])


def feature_loss(pairs: Sequence[FeaturePair], expected: Sequence[TfTensor], features: Sequence[TfTensor]) -> TfTensor:
    """Return the mean over layers of the squared difference of features, over the teacher's mean square."""
    tf = import_tensorflow()
    losses = []
    for pair, taught, learnt in zip(pairs, expected, features, strict=True):
        its, own = tf.cast(taught, tf.float32), tf.cast(learnt, tf.float32)
        mapped = own if pair.adapter is None else pair.adapter(own)
        # The bound is for features that are all zero, behind a dead ReLU.
        losses.append(tf.reduce_mean((its - mapped) ** 2) / tf.maximum(tf.reduce_mean(its**2), 1e-12))
    return tf.add_n(losses) / len(losses)


def _feature_pairs(student: KerasModel, teacher: KerasModel, settings: Distill, seed: int) -> list[FeaturePair]:
    if settings.features is None:
        return []
    where = "finetune.distill.features"
    ours, theirs = ({plain_name(layer): layer for layer in model.layers} for model in (student, teacher))
    names = list(dict.fromkeys(n for p in settings.features.layers for n in matching(p, list(ours), where)))
    return [_pair(ours[name], theirs.get(name), where, seed + index) for index, name in enumerate(names)]


def _pair(student: KerasLayer, teacher: KerasLayer | None, where: str, seed: int) -> FeaturePair:
    name = plain_name(student)
    if teacher is None:
        raise PreconditionError(f"the teacher has no layer {name}", where=where, hint="name layers that both have")
    own, its = student.get_output_at(0), teacher.get_output_at(0)
    if isinstance(own, list) or isinstance(its, list) or own.shape[1:-1] != its.shape[1:-1]:
        what = f"{name} gives {getattr(own, 'shape', 'several')}, in the teacher {getattr(its, 'shape', 'several')}"
        raise PreconditionError(what, where=where, hint="only channels may differ")
    if own.shape[-1] == its.shape[-1]:
        return FeaturePair(own, its, None)
    initializer = import_keras().initializers.GlorotUniform(
        seed
    )  # seeded separately: other weights may be drawn before
    adapter = import_keras().layers.Dense(
        its.shape[-1], use_bias=False, kernel_initializer=initializer, dtype="float32", name=f"{name}_to_teacher"
    )
    adapter.build(own.shape)
    return FeaturePair(own, its, adapter)


def _added(losses: Sequence[TfTensor]) -> TfTensor:
    return reduce(add, losses)


def _listed(outputs: TfTensors) -> list[TfTensor]:
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]
