"""Check losses and metrics of each output: with several, each learns from its own labels, one without from none."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.data import Preprocess, Split
from pipeline.errors import DataError, PreconditionError
from stages.finetune.checkpoints import Checkpoints
from stages.finetune.config import Distill, FinetuneConfig
from stages.finetune.objective import objectives
from stages.finetune.stage import FinetuneStage
from stages.finetune.training import fine_tune
from stages.keras.sparsity import PlannedKernel, SparsityPlan, apply_masks
from stages.keras.tensorflow import import_keras, tensorflow_action

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


SETTINGS = {"epochs": 4, "batch": 16, "learning_rate": 0.01}
PLAIN = FinetuneConfig(**SETTINGS)
TASKS = {"kind": "classes", "level": "regression", "marks": "multilabel"}


def network(filters=6):
    """Build three heads on one body; `kind` gives probabilities, the others logits and numbers."""
    layers = import_keras().layers
    inputs = layers.Input((5,), name="x")
    body = layers.Dense(filters, activation="relu", name="body")(inputs)
    body = layers.Dropout(0.1, name="dropout")(body)
    heads = [
        layers.Dense(3, activation="softmax", name="kind")(body),
        layers.Dense(1, name="level")(body),
        layers.Dense(2, name="marks")(body),
    ]
    return import_keras().Model(inputs, heads)


def split(name, labelled=tuple(TASKS), seed=0, count=70):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 5)).astype(np.float32)
    y = {"kind": x[:, :3].argmax(axis=1), "level": x[:, :1] - x[:, 1:2], "marks": (x[:, 2:4] > 0).astype(np.float32)}
    task = {output: TASKS[output] for output in labelled}
    targets = {output: y[output] for output in labelled}
    return Split(name, f"sha256:{seed:064}", x, targets or None, Preprocess(), task or "unlabelled")


def splits(*labelled):
    return split("train", labelled or tuple(TASKS)), split("validation", labelled or tuple(TASKS), 1, 40)


def trained(config=PLAIN, data=None, checkpoints=None, plan=None, heard=lambda *_: None):
    with tensorflow_action(3, 2):
        teacher, model = (network(8) if config.distill else None), network()
        if plan:
            apply_masks(model, plan)
        before = {layer.name: layer.get_weights() for layer in model.layers}
        result = fine_tune(
            model, config, *(data or splits()), 3, checkpoints, heard, plan, teacher=teacher, progress_interval_s=0
        )
    return before, result


def moved(before, result, layer):
    now = result.model.get_layer(layer).get_weights()
    return any(not np.array_equal(a, b) for a, b in zip(before[layer], now, strict=True))


def test_each_output_learns_by_its_own_loss_and_metric():
    before, result = trained(FinetuneConfig(**{**SETTINGS, "epochs": 12}))
    assert all(moved(before, result, name) for name in ("body", *TASKS))
    history = result.history
    assert {name for name in history if not name.startswith("val_")} == {
        *("loss", "kind_loss", "level_loss", "marks_loss", "kind_accuracy", "level_mae", "marks_accuracy", "lr")
    }
    whole = [sum(history[f"{name}_loss"][epoch] for name in TASKS) for epoch in range(12)]
    np.testing.assert_allclose(history["loss"], whole, rtol=1e-5)
    for name in TASKS:
        assert history[f"val_{name}_loss"][-1] < history[f"val_{name}_loss"][0]


def test_an_output_without_labels_is_trained_without_a_loss():
    before, result = trained(data=splits("kind"))
    assert [moved(before, result, name) for name in ("body", "kind", "level", "marks")] == [True, True, False, False]
    assert not any("level" in name or "marks" in name for name in result.history)


def test_weights_of_losses_and_losses_by_name():
    config = FinetuneConfig(**SETTINGS, loss={"level": "huber"}, loss_weights={"level": 0.0, "kind": 2.0})
    with tensorflow_action(3, 2):
        goals = objectives(network(), *splits(), config)
    assert [type(one.loss).__name__ for one in goals.each] == [
        *("SparseCategoricalCrossentropy", "Huber", "BinaryCrossentropy")
    ]
    before, result = trained(config)
    assert not moved(before, result, "level")
    expected = 2 * np.array(result.history["kind_loss"]) + result.history["marks_loss"]
    np.testing.assert_allclose(result.history["loss"], expected, rtol=1e-5)


def test_smoothing_mixup_and_balanced_classes_are_of_the_classes_alone():
    config = FinetuneConfig(**SETTINGS, label_smoothing=0.1, mixup=0.2, class_weights="balanced")
    before, result = trained(config)
    assert all(moved(before, result, name) for name in TASKS)
    assert result.history["val_kind_loss"][0] > 0
    plain = trained()[1]
    assert result.history["level_loss"] != plain.history["level_loss"]  # mixup blends numbers too


@pytest.mark.parametrize("labelled", [("kind", "level"), ()])
def test_a_teacher_teaches_the_outputs_without_labels_too(labelled):
    config = FinetuneConfig(**SETTINGS, distill=Distill(weight=0.5))
    before, result = trained(config, data=splits(*labelled) if labelled else (split("train", ()), split("v", (), 1)))
    assert all(moved(before, result, name) for name in TASKS)
    assert ("val_kind_accuracy" in result.history) == bool(labelled)
    assert "distillation_loss" in result.history
    assert result.history["distillation_loss"][-1] < result.history["distillation_loss"][0]


def test_the_control_teaches_itself_nothing():
    """A teacher that is the model's equal has no loss on it, of no output: only dropout is between them."""
    config = FinetuneConfig(**{**SETTINGS, "epochs": 1}, distill=Distill(weight=1.0), freeze=("body",))
    with tensorflow_action(3, 2):
        model = network()
        for layer in model.layers:
            if layer.name == "dropout":
                layer.rate = 0.0
        result = fine_tune(model, config, *splits(), 3, teacher=model)
    assert result.history["distillation_loss"][0] == pytest.approx(0, abs=1e-6)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("distill", [None, Distill()])
def test_a_killed_training_ends_in_the_same_bits(tmp_path, distill):
    config = FinetuneConfig(**SETTINGS, distill=distill)
    _, whole = trained(config, checkpoints=Checkpoints(tmp_path / "whole"))

    def kill(done, *_):
        if 1.5 < done < 2:
            raise KilledError

    with pytest.raises(KilledError):
        trained(config, checkpoints=Checkpoints(tmp_path / "killed"), heard=kill)
    _, again = trained(config, checkpoints=Checkpoints(tmp_path / "killed"))
    assert again.resumed_from == 1
    assert again.history == whole.history
    pairs = zip(again.model.get_weights(), whole.model.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_zeros_are_kept_in_heads_too():
    plan = SparsityPlan(
        criterion="magnitude",
        scope="layer",
        pattern="free",
        block=(4, 4),
        reached_at=0.0,
        seed=1,
        kernels=tuple(PlannedKernel(layer=name, weight=0, share=0.5) for name in ("body", "kind", "marks")),
    )
    before, result = trained(plan=plan)
    for name in ("body", "kind", "marks"):
        now = result.model.get_layer(name).get_weights()[0]
        assert np.array_equal(now == 0, before[name][0] == 0)
        assert (now == 0).mean() == 0.5


@pytest.mark.parametrize(
    ("settings", "labelled", "where", "words"),
    [
        ({"loss": {"kin": "mse"}}, (), "finetune.loss", "'kin' is not an output of the model"),
        ({"loss": {"marks": "mse"}}, ("kind",), "finetune.loss", "no labels for 'marks'"),
        ({"loss": {"level": "cross_entropy"}}, ("level",), "finetune.loss", "cross_entropy is not a loss for numbers"),
        ({"loss_weights": {"level": 2}}, ("kind",), "finetune.loss_weights", "no labels for 'level'"),
        ({"label_smoothing": 0.1}, ("level", "marks"), "finetune.label_smoothing", "for classes"),
    ],
)
def test_settings_for_outputs_that_are_not_or_have_no_labels(settings, labelled, where, words):
    with tensorflow_action(3, 2), pytest.raises(PreconditionError, match=words) as caught:
        objectives(network(), *splits(*labelled), FinetuneConfig(**settings))
    assert caught.value.where == where


def test_training_and_validation_have_labels_for_the_same_outputs():
    data = split("train", ("kind",)), split("validation", ("kind", "level"), 1)
    with pytest.raises(PreconditionError, match="labels for kind, the validation data for kind, level"):
        trained(data=data)


@pytest.fixture
def stage(make_context):
    def run(data, **settings):
        context = make_context(FinetuneConfig(**{**SETTINGS, "epochs": 1, **settings}))
        with tensorflow_action(1, 2):
            context.inputs = {"model": context.write_model(network())}
        context.splits = dict(zip(("train", "validation"), data, strict=True))
        stage = FinetuneStage()
        stage.requires(context.config, context.inputs)
        result = stage.run(context)
        stage.ensures(context, result)
        return result

    return run


def test_the_stage_tells_of_each_output(stage):
    found = stage(splits("kind", "level")).metrics
    assert set(found) == {"epochs", "validation_loss", "validation_accuracy[kind]", "validation_mae[level]"}


def test_labels_that_no_output_can_be_told_for_are_refused(stage):
    whole = split("train")
    unnamed = replace(whole, y=whole.y["kind"], task="classes")
    with pytest.raises(DataError, match="don't say which output they are for: the model has kind, level, marks") as e:
        stage((unnamed, unnamed))
    assert "y_train__kind" in e.value.hint
    other = replace(whole, y={"kine": whole.y["kind"]}, task={"kine": "classes"})
    with pytest.raises(DataError, match="labels for 'kine', no output of the model") as e:
        stage((other, other))
    assert "kind" in e.value.hint
    wide = replace(whole, y={"level": whole.y["marks"]}, task={"level": "regression"})
    with pytest.raises(DataError, match=r"targets are \(2,\) a sample, the model's output 'level' is \(1,\)"):
        stage((wide, wide))


def test_a_sample_that_is_no_number_is_named_before_training(stage):
    data = splits()
    data[1].x[7, 2] = np.nan
    with pytest.raises(DataError, match="sample 7 of the validation split holds NaN") as caught:
        stage(data)
    assert caught.value.where == "data.validation"
