import numpy as np
import pytest

from pipeline.errors import PreconditionError
from stages.finetune.config import Distill, FinetuneConfig
from stages.finetune.objective import objectives

LABELLED = ("classes", "multilabel", "regression")
OUTPUTS = {
    "classes": (2, "softmax"),
    "multilabel": (3, "sigmoid"),
    "regression": (2, None),
    "unlabelled": (2, "softmax"),
}


def alone(*arguments):
    (goal,) = objectives(*arguments).each
    return goal


def made(network, pair, task, **settings):
    return alone(network(*OUTPUTS[task]), *pair(task), FinetuneConfig(**settings))


@pytest.mark.parametrize(
    ("task", "settings", "kind", "metric"),
    [
        ("classes", {}, "SparseCategoricalCrossentropy", "accuracy"),
        ("classes", {"label_smoothing": 0.1}, "CategoricalCrossentropy", "accuracy"),
        ("multilabel", {}, "BinaryCrossentropy", "accuracy"),
        ("regression", {}, "MeanSquaredError", "mae"),
        ("regression", {"loss": "mae"}, "MeanAbsoluteError", "mae"),
        ("regression", {"loss": "huber"}, "Huber", "mae"),
    ],
)
def test_the_loss_follows_from_the_targets(network, pair, task, settings, kind, metric):
    goal = made(network, pair, task, **settings)
    assert (type(goal.loss).__name__, goal.metric.name) == (kind, metric)
    assert goal.dense == bool(settings.get("label_smoothing"))


def test_without_labels_there_is_only_the_teacher(network, pair):
    goal = made(network, pair, "unlabelled", distill=Distill())
    assert (goal.loss, goal.metric, goal.logits) == (None, None, False)
    with pytest.raises(PreconditionError, match="no labels") as caught:
        made(network, pair, "unlabelled")
    assert "y_train" in caught.value.hint
    assert "distill" in caught.value.hint


@pytest.mark.parametrize(
    ("task", "settings", "where"),
    [
        ("classes", {"loss": "mse"}, "finetune.loss"),
        ("regression", {"loss": "cross_entropy"}, "finetune.loss"),
        ("regression", {"label_smoothing": 0.1}, "finetune.label_smoothing"),
        ("multilabel", {"class_weights": "balanced"}, "finetune.class_weights"),
    ],
)
def test_settings_for_other_targets_are_refused(network, pair, task, settings, where):
    with pytest.raises(PreconditionError) as caught:
        made(network, pair, task, **settings)
    assert caught.value.where == where


def test_training_and_validation_data_hold_the_same_or_training_holds_no_labels(network, pair):
    model, config = network(), FinetuneConfig(distill=Distill())
    with pytest.raises(PreconditionError, match="training data holds numbers, the validation data classes"):
        alone(model, pair("regression")[0], pair()[1], config)
    assert alone(model, pair("unlabelled")[0], pair()[1], config).task == "classes"


@pytest.mark.parametrize(("activation", "outputs"), [("sigmoid", [0.9, 0.2, 0.6]), (None, [2.0, -1.0, 0.3])])
def test_the_metric_of_one_output_counts_blended_labels_as_the_nearer_class(network, pair, activation, outputs):
    goal = alone(network(1, activation), *pair(), FinetuneConfig(mixup=0.2))
    goal.metric.update_state(np.array([[0.95], [0.1], [0.4]]), np.array(outputs)[:, None])
    assert float(goal.metric.result()) == pytest.approx(2 / 3)
