"""Test the evaluate stage: metrics equal to a count by hand, in any batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.data import Preprocess
from pipeline.errors import DataError, PostconditionError, PreconditionError
from pipeline.records.facts import CalibrationFacts, EvaluationFacts
from stages.keras.tensorflow import import_keras
from stages.samples.proportions import wilson_interval
from stages.verify.config import EvaluateConfig
from stages.verify.evaluate import CONFUSION_FILE, EvaluateStage

STAGE = EvaluateStage()


@pytest.fixture
def evaluating(make_context: Callable[..., Any], make_split: Callable[..., Any]) -> Callable[..., Any]:
    def make(
        model: Any, x: Any, y: Any, preprocess: Preprocess | None = None, task: Any = "classes", **settings: Any
    ) -> Any:
        splits = {"test": make_split("test", x, y, preprocess, task)}
        context = make_context(EvaluateConfig(**settings), splits=splits)
        context.inputs = {"model": context.write_model(model)}
        return context

    return make


@pytest.fixture(scope="module")
def identity() -> Any:
    """Build a model that returns its three inputs: the class is the largest of them."""
    keras = import_keras()
    inputs = keras.Input((3,), name="x")
    model = keras.Model(inputs, keras.layers.Dense(3, use_bias=False, name="y")(inputs), name="identity")
    model.set_weights([np.eye(3, dtype=np.float32)])
    return model


STORED = np.array([[250, 3, 1], [0, 9, 4], [1, 2, 200], [8, 7, 6], [5, 6, 7]], np.uint8)
LABELS = np.array([0, 1, 1, 0, 2])  # the third is wrong


@pytest.mark.parametrize("batch", [1, 2, 5, 100])
def test_accuracy_is_a_count_by_hand(evaluating: Callable[..., Any], identity: Any, batch: int) -> None:
    context = evaluating(identity, STORED, LABELS, batch=batch)
    STAGE.requires(context.config, context.inputs)
    result = STAGE.run(context)
    STAGE.ensures(context, result)
    (artifact,) = result.outputs
    assert artifact.facts == EvaluationFacts(samples=5, metrics={"accuracy": 0.8})
    model = context.inputs["model"]
    assert result.metrics == {"accuracy": 0.8, "params": 9.0, "macs": 9.0, "size_bytes": float(model.files[0].size)}
    assert result.intervals == {"accuracy": wilson_interval(4, 5)}
    assert context.progress[-1] == (5, 5)
    assert len(context.progress) == -(-5 // batch)


def test_inputs_are_preprocessed(evaluating: Callable[..., Any], identity: Any) -> None:
    upside_down = Preprocess(scale=-1.0)
    least = STORED.argmin(axis=1)
    assert STAGE.run(evaluating(identity, STORED, least, upside_down)).metrics["accuracy"] == 1.0


def test_dropout_and_batch_statistics_stay_out(evaluating: Callable[..., Any]) -> None:
    keras = import_keras()
    inputs = keras.Input((3,), name="x")
    x = keras.layers.Dropout(0.9, name="dropout")(inputs)
    model = keras.Model(inputs, keras.layers.BatchNormalization(name="norm")(x), name="trainable")
    accuracy = STAGE.run(evaluating(model, STORED, STORED.argmax(axis=1))).metrics["accuracy"]
    assert accuracy == 1.0


def test_data_that_does_not_fit_is_refused_before_the_model_is_read(
    evaluating: Callable[..., Any], identity: Any
) -> None:
    context = evaluating(identity, STORED, LABELS + 1)
    context.read = None
    with pytest.raises(DataError, match="labels run from 1 to 3, the model's 3 classes"):
        STAGE.run(context)


def test_outputs_that_are_not_finite_are_an_error(evaluating: Callable[..., Any]) -> None:
    keras = import_keras()
    inputs = keras.Input((3,), name="x")
    sums = keras.Model(inputs, keras.layers.Dense(3, use_bias=False, kernel_initializer="ones", name="y")(inputs))
    large = STORED.astype(np.float32)
    large[2] = 3e38  # finite each, but not their sum
    with pytest.raises(
        PostconditionError,
        match=r"outputs of the model are not finite on 1 sample, first on test sample 2; the first layer .* is 'y'",
    ):
        STAGE.run(evaluating(sums, large, LABELS))


def test_a_sample_that_is_no_number_is_named_with_its_input(
    evaluating: Callable[..., Any],
) -> None:
    keras = import_keras()
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    context = evaluating(keras.Model([a, b], keras.layers.Add(name="sum")([a, b])), None, LABELS)
    broken = STORED.astype(np.float32)
    broken[3, 0] = np.nan
    context.splits = {"test": replace(context.splits["test"], x={"a": STORED, "b": broken})}
    with pytest.raises(DataError, match="sample 3 of the test split holds NaN or infinity in input 'b'") as caught:
        STAGE.run(context)
    assert "layer" not in str(caught.value)


def test_it_takes_keras_models_and_reads_the_test_split() -> None:
    from pipeline.records.artifacts import Artifact

    assert STAGE.splits(EvaluateConfig()) == ("test",)
    with pytest.raises(PreconditionError, match="a keras-model is wanted"):
        STAGE.requires(EvaluateConfig(), {"model": Artifact(files=(), facts=CalibrationFacts(samples=1))})


def test_the_confusion_matrix_is_a_file_and_no_flat_metric(evaluating: Callable[..., Any], identity: Any) -> None:
    context = evaluating(identity, STORED, LABELS, metrics=("confusion_matrix", "top_2"))
    result = STAGE.run(context)
    (artifact,) = result.outputs
    document = json.loads((context.folder / artifact.file(CONFUSION_FILE).digest.removeprefix("sha256:")).read_text())
    assert document["counts"] == [[2, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert document["classes"] == ["0", "1", "2"]
    assert result.metrics.keys() == {"top_2", "params", "macs", "size_bytes"}


def test_regression_has_errors_for_metrics(evaluating: Callable[..., Any], identity: Any) -> None:
    targets = STORED + np.array([1, -1, 3], np.float32)
    result = STAGE.run(evaluating(identity, STORED, targets, task="regression"))
    assert result.metrics["mse"] == pytest.approx((1 + 1 + 9) / 3)
    assert result.metrics["mae"] == pytest.approx(5 / 3)
    assert result.intervals == {}
    with pytest.raises(PreconditionError, match="accuracy is not a metric for task regression"):
        STAGE.run(evaluating(identity, STORED, targets, task="regression", metrics=("accuracy",)))


def test_the_user_s_own_metric(evaluating: Callable[..., Any], identity: Any) -> None:
    context = evaluating(identity, STORED, LABELS, metrics=("mine:spread",))
    context.functions = {"mine:spread": lambda targets, outputs: outputs.max() - targets.max()}
    assert STAGE.run(context).metrics["spread"] == 248


def test_several_inputs_go_in_by_name(evaluating: Callable[..., Any]) -> None:
    keras = import_keras()
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    model = keras.Model([a, b], keras.layers.Subtract(name="difference")([a, b]))
    context = evaluating(model, None, STORED.argmin(axis=1))
    context.splits = {"test": replace(context.splits["test"], x={"b": STORED, "a": np.zeros_like(STORED)})}
    assert STAGE.run(context).metrics["accuracy"] == 1.0


def test_data_without_labels_is_refused(evaluating: Callable[..., Any], identity: Any) -> None:
    with pytest.raises(DataError, match="no labels"):
        STAGE.run(evaluating(identity, STORED, None, task="unlabelled"))


@pytest.fixture(scope="module")
def heads() -> Any:
    """Return its three inputs as classes, and their sum."""
    keras = import_keras()
    inputs = keras.Input((3,), name="x")
    kind = keras.layers.Dense(3, use_bias=False, name="kind")(inputs)
    model = keras.Model(inputs, [kind, keras.layers.Dense(1, use_bias=False, name="sum")(inputs)], name="heads")
    model.get_layer("kind").set_weights([np.eye(3, dtype=np.float32)])
    model.get_layer("sum").set_weights([np.ones((3, 1), np.float32)])
    return model


SUMS = STORED.astype(np.float32).sum(axis=1, keepdims=True) + np.array([[1], [0], [0], [0], [2]], np.float32)
BOTH = {"kind": LABELS, "sum": SUMS}
TASKS = {"kind": "classes", "sum": "regression"}


def test_each_output_has_its_metrics_under_its_name(evaluating: Callable[..., Any], heads: Any) -> None:
    context = evaluating(heads, STORED, BOTH, task=TASKS)
    STAGE.requires(context.config, context.inputs)
    result = STAGE.run(context)
    found = {name: value for name, value in result.metrics.items() if "[" in name}
    assert found == {"accuracy[kind]": 0.8, "mse[sum]": 1.0, "mae[sum]": pytest.approx(3 / 5)}
    assert result.intervals == {"accuracy[kind]": wilson_interval(4, 5)}
    only = STAGE.run(evaluating(heads, STORED, {"sum": SUMS}, task={"sum": "regression"})).metrics
    assert {name for name in only if "[" in name} == {"mse[sum]", "mae[sum]"}


def test_metrics_are_for_each_output_by_name_or_for_those_whose_task_has_them(
    evaluating: Callable[..., Any], heads: Any
) -> None:
    def measured(metrics: Any) -> set[str]:
        found = STAGE.run(evaluating(heads, STORED, BOTH, task=TASKS, metrics=metrics))
        assert len(found.outputs[0].files) == ("confusion_matrix" in str(metrics))
        return {name for name in found.metrics if "[" in name}

    assert measured(("macro_f1", "mae", "top_2")) == {"macro_f1[kind]", "top_2[kind]", "mae[sum]"}
    assert measured({"kind": ("top_2", "confusion_matrix")}) == {"top_2[kind]", "mse[sum]", "mae[sum]"}
    with pytest.raises(PreconditionError, match="auc is not a metric for task regression"):
        measured({"sum": ("auc",)})
    with pytest.raises(PreconditionError, match="'kid' is not an output with targets") as caught:
        measured({"kid": ("auc",)})
    assert "kind" in str(caught.value.hint)
    with pytest.raises(PreconditionError, match="auc is not a metric for task regression"):
        STAGE.run(evaluating(heads, STORED, {"sum": SUMS}, task={"sum": "regression"}, metrics=("auc",)))
    numbers = {"kind": np.eye(3)[LABELS], "sum": SUMS}
    with pytest.raises(PreconditionError, match="auc is not a metric for any of the tasks here: regression"):
        STAGE.run(evaluating(heads, STORED, numbers, task=dict.fromkeys(numbers, "regression"), metrics=("auc",)))


def test_labels_of_no_output_are_not_measured(evaluating: Callable[..., Any], heads: Any, identity: Any) -> None:
    with pytest.raises(DataError, match="don't say which output they are for: the model has kind, sum"):
        STAGE.run(evaluating(heads, STORED, LABELS))
    named = STAGE.run(evaluating(identity, STORED, {"y": LABELS}, task={"y": "classes"}))
    assert named.metrics["accuracy"] == 0.8  # the name of a single output is not part of the metric's
    with pytest.raises(DataError, match="labels for 'z', no output of the model"):
        STAGE.run(evaluating(identity, STORED, {"z": LABELS}, task={"z": "classes"}))
