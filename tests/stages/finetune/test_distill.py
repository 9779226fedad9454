import numpy as np
import pytest

from pipeline.errors import PreconditionError
from stages.finetune.config import Distill, Features, FinetuneConfig
from stages.finetune.distill import output_loss
from stages.finetune.objective import Objective
from stages.finetune.training import fine_tune
from stages.keras.losses import regression_loss
from stages.keras.tensorflow import import_tensorflow, tensorflow_action

TEACHER, STUDENT = np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]]), np.array([[1.0, 1.0, 0.0], [0.0, -1.0, 1.0]])


def softmax(logits):
    raised = np.exp(logits)
    return raised / raised.sum(axis=1, keepdims=True)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def loss(task, teacher, student, logits, temperature=3.0):
    tf = import_tensorflow()
    numbers = regression_loss("mae") if task == "regression" else None
    goal = Objective("head", 3, task, numbers, None, False, logits, numbers)
    return float(output_loss(goal, temperature)(tf.constant(teacher, tf.float32), tf.constant(student, tf.float32)))


def test_the_loss_between_classes_is_the_softened_divergence_times_the_square_of_temperature():
    p, q = softmax(TEACHER / 3), softmax(STUDENT / 3)
    expected = (p * np.log(p / q)).sum(axis=1).mean() * 9
    assert loss("classes", TEACHER, STUDENT, logits=True) == pytest.approx(expected, rel=1e-5)
    assert loss("classes", softmax(TEACHER), softmax(STUDENT), logits=False) == pytest.approx(expected, rel=1e-4)
    assert loss("classes", TEACHER, TEACHER, logits=True) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("task", ["multilabel", "classes"])
def test_the_loss_between_labels_is_that_of_each_alone(task):
    teacher, student = (TEACHER, STUDENT) if task == "multilabel" else (TEACHER[:, :1], STUDENT[:, :1])
    p, q = sigmoid(teacher / 3), sigmoid(student / 3)
    expected = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean() * 9
    assert loss(task, teacher, student, logits=True) == pytest.approx(expected, rel=1e-5)
    assert loss(task, sigmoid(teacher), sigmoid(student), logits=False) == pytest.approx(expected, rel=1e-4)


def test_numbers_are_learned_by_the_loss_that_is_trained_with():
    assert loss("regression", TEACHER, STUDENT, logits=False) == pytest.approx(np.abs(TEACHER - STUDENT).mean())


def test_probabilities_of_zero_and_one_give_finite_losses():
    certain, wrong = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    for task in ("classes", "multilabel"):
        assert np.isfinite(loss(task, certain, wrong, logits=False))


def distilled(network, splits, distill, epochs=8, rate=0.02, filters=4):
    """Return a student of other widths than its teacher, the result, and the teacher's weights before and after."""
    with tensorflow_action(3, 2):
        teacher, student = network(filters=6), network(filters=filters)
        before, layers = teacher.get_weights(), [layer.name for layer in student.layers]
        config = FinetuneConfig(epochs=epochs, batch=16, learning_rate=rate, distill=distill, early_stopping=None)
        result = fine_tune(student, config, *splits, 3, teacher=teacher)
        assert result.model is student
        assert [layer.name for layer in student.layers] == layers
        for one, other in zip(before, teacher.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
        return result, teacher


def test_without_labels_the_model_comes_to_say_what_its_teacher_says(network, pair):
    result, teacher = distilled(network, pair("unlabelled"), Distill(temperature=2))
    assert result.history["val_loss"][-1] < 0.3 * result.history["val_loss"][0]
    assert result.validation_loss == pytest.approx(min(result.history["val_loss"]), rel=1e-5)
    x, _ = pair()[1].take(np.arange(40))
    agreement = (result.model.predict(x, verbose=0).argmax(1) == teacher.predict(x, verbose=0).argmax(1)).mean()
    assert agreement > 0.85


def test_unlabelled_training_data_is_judged_by_labelled_validation_data(network, pair):
    result, _ = distilled(network, (pair("unlabelled")[0], pair()[1]), Distill(), epochs=2)
    assert set(result.history) == {"loss", "distillation_loss", "val_loss", "val_accuracy", "lr"}


def test_the_losses_add_up_by_their_weights_and_validation_is_by_labels_alone(network, pair):
    alone, _ = distilled(network, pair(), Distill(weight=1.0), epochs=1)
    assert alone.history["loss"] == pytest.approx(alone.history["distillation_loss"])
    both, _ = distilled(network, pair(), Distill(weight=0.25), epochs=1)
    assert both.history["loss"][0] > both.history["distillation_loss"][0] * 0.25
    assert both.history["val_loss"][0] == pytest.approx(both.validation_loss, rel=1e-5)


def test_features_of_other_widths_are_learned_through_a_map_that_is_dropped(network, pair):
    features = Distill(weight=1.0, features=Features(layers=("conv",), weight=5.0))
    result, _ = distilled(network, pair("unlabelled"), features, epochs=20, rate=0.01, filters=8)
    of_features = np.subtract(result.history["loss"], result.history["distillation_loss"]) / 5
    assert of_features[-1] < 0.5 * of_features[0]


def test_a_pattern_without_a_layer_and_features_of_other_shapes_are_refused(network, pair):
    with pytest.raises(PreconditionError, match="no layer matches"):
        distilled(network, pair(), Distill(features=Features(layers=("block*",))))
    teacher, student = network(), network(outputs=3)
    student.layers[0]._name = "other"  # a layer that the teacher does not have
    config = FinetuneConfig(distill=Distill(features=Features(layers=("other",))))
    with pytest.raises(PreconditionError, match="the teacher has no layer other"):
        fine_tune(student, config, *pair(), 3, teacher=teacher)


def test_distillation_needs_a_teacher(network, pair):
    with pytest.raises(PreconditionError, match="needs a teacher"):
        fine_tune(network(), FinetuneConfig(distill=Distill()), *pair(), 3)
