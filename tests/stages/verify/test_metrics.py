"""Compare metrics with counts by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.errors import PostconditionError, PreconditionError
from stages.keras.tensorflow import import_keras
from stages.samples.proportions import wilson_interval
from stages.verify.metrics import are_logits, evaluate, metrics_for

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.1, 0.2, 0.7]])
LABELS = np.array([1, 0, 1, 0, 2])


def one(name: str, outputs: Any, targets: Any, task: Any = "classes") -> float:
    found = evaluate(np.asarray(outputs), np.asarray(targets), task, (name,))
    return found.metrics[name]


def test_top_k_is_a_count_by_hand_with_an_interval() -> None:
    found = evaluate(SCORES, LABELS, "classes", ("accuracy", "top_1", "top_2"))
    assert found.metrics == {"accuracy": 0.6, "top_1": 0.6, "top_2": 0.8}
    assert found.intervals == {
        "accuracy": wilson_interval(3, 5),
        "top_1": wilson_interval(3, 5),
        "top_2": wilson_interval(4, 5),
    }
    with pytest.raises(PreconditionError, match="top_3 of 3 classes is always 1"):
        evaluate(SCORES, LABELS, "classes", ("top_3",))


def test_the_first_of_equal_scores_is_the_best() -> None:
    assert one("accuracy", np.full((4, 4), 0.25), [0, 1, 2, 3]) == 0.25
    assert one("top_2", np.full((4, 4), 0.25), [0, 1, 2, 3]) == 0.5


def test_one_output_tells_two_classes_apart_at_one_half_or_at_a_logit_of_zero() -> None:
    assert one("accuracy", [[0.2], [0.51], [0.5], [0.9]], [0, 1, 1, 1]) == 0.75
    assert one("accuracy", [[-3.0], [0.1], [-0.1], [5.0]], [0, 1, 1, 1]) == 0.75


def test_the_confusion_matrix_has_actual_rows_and_predicted_columns() -> None:
    found = evaluate(SCORES, LABELS, "classes", ("confusion_matrix",))
    assert found.confusion == [[1, 0, 1], [1, 1, 0], [0, 0, 1]]
    assert found.metrics == {}


def test_macro_f1_by_hand() -> None:
    # class 0: precision 1/2, recall 1/2; class 1: 1 and 1/2; class 2: 1/2 and 1
    assert one("macro_f1", SCORES, LABELS) == pytest.approx((1 / 2 + 2 / 3 + 2 / 3) / 3)
    # what neither occurs nor is predicted does not count
    assert one("macro_f1", [[0.9, 0.1, 0.0]] * 2, [0, 0]) == 1.0


def test_auc_counts_pairs_and_equal_scores_half() -> None:
    positive, negative = [0.9, 0.4, 0.4], [0.4, 0.1]
    outputs, labels = np.array([*positive, *negative])[:, None], [1, 1, 1, 0, 0]
    pairs = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
    assert one("auc", outputs, labels) == pytest.approx(np.mean(pairs))
    with pytest.raises(PreconditionError, match="all are of one"):
        one("auc", outputs, [1] * 5)


@pytest.mark.parametrize("seed", [0, 1])
def test_auc_is_keras_own_for_two_classes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 300)
    scores = np.clip(labels * 0.2 + rng.random(300), 0, 1.0)[:, None]
    measure = import_keras().metrics.AUC(num_thresholds=5000)
    measure.update_state(labels, scores)
    assert one("auc", scores, labels) == pytest.approx(float(measure.result()), abs=2e-3)


def test_multilabel_metrics_by_hand() -> None:
    outputs = np.array([[0.9, 0.2], [0.8, 0.7], [0.1, 0.6], [0.4, 0.1]])
    targets = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], np.float32)
    found = evaluate(outputs, targets, "multilabel", ("accuracy", "macro_f1", "auc"))
    assert found.metrics["accuracy"] == 0.75  # 6 of 8 labels
    assert found.intervals["accuracy"] == wilson_interval(3, 4)
    assert found.metrics["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert found.metrics["auc"] == pytest.approx((1.0 + 2 / 3) / 2)
    logits = np.log(outputs / (1 - outputs))
    assert evaluate(logits, targets, "multilabel", ("accuracy", "auc")).metrics == pytest.approx(
        {"accuracy": 0.75, "auc": found.metrics["auc"]}
    )


def test_errors_of_regression_by_hand() -> None:
    found = evaluate(
        np.array([[1.0], [2.0], [5.0]]), np.array([1.0, 3.0, 3.0], np.float32), "regression", ("mse", "mae")
    )
    assert found.metrics == pytest.approx({"mse": 5 / 3, "mae": 1.0})
    assert found.intervals == {}


def test_the_user_s_own_metric_gets_targets_and_raw_outputs() -> None:
    def worst(targets: Any, outputs: Any) -> Any:
        assert outputs.shape == (2, 3)
        return abs(targets - outputs.max(axis=1)).max()

    found = evaluate(np.eye(3)[:2] * 7, np.array([0, 1]), "classes", ("mine:worst",), {"mine:worst": worst})
    assert found.metrics == {"worst": 7.0}
    with pytest.raises(PostconditionError, match="mine:bad failed: ZeroDivisionError"):
        evaluate(SCORES, LABELS, "classes", ("mine:bad",), {"mine:bad": lambda _a, _b: 1 / 0})
    with pytest.raises(PostconditionError, match="gave nan"):
        evaluate(SCORES, LABELS, "classes", ("mine:bad",), {"mine:bad": lambda _a, _b: float("nan")})


@pytest.mark.parametrize(
    ("outputs", "task", "expected"),
    [
        (SCORES, "classes", False),
        (SCORES * 0.9, "classes", True),  # within 0 and 1, but no distribution
        (SCORES * 0.9, "multilabel", False),
        (SCORES - 0.5, "multilabel", True),
        ([[0.3], [0.9]], "classes", False),
        ([[0.3], [1.1]], "classes", True),
    ],
)
def test_logits_tell_themselves(outputs: Any, task: Any, expected: bool) -> None:
    assert are_logits(outputs, task) is expected


def test_metrics_follow_from_the_task_and_are_held_against_it() -> None:
    assert metrics_for("classes", None) == ("accuracy",)
    assert metrics_for("regression", None) == ("mse", "mae")
    assert metrics_for("classes", ("top_5", "mine:own")) == ("top_5", "mine:own")
    with pytest.raises(PreconditionError, match="accuracy is not a metric for task regression"):
        metrics_for("regression", ("accuracy",))
