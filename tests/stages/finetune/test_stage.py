import json

import numpy as np
import pytest

from pipeline.errors import PostconditionError, PreconditionError
from stages.finetune.config import Distill, FinetuneConfig
from stages.finetune.stage import FinetuneStage
from stages.keras.tensorflow import tensorflow_action


@pytest.fixture
def context(make_context, network, pair):
    """Return a context of the stage: a model, a wider teacher if requested, and data of a task."""

    def make(task="classes", outputs=2, activation="softmax", teacher_outputs=2, **settings):
        made = make_context(FinetuneConfig(**settings))
        with tensorflow_action(1, 2):
            made.inputs = {"model": made.write_model(network(outputs, activation))}
            if made.config.distill:
                made.inputs["teacher"] = made.write_model(network(teacher_outputs, activation, filters=6))
        made.splits = dict(zip(("train", "validation"), pair(task), strict=True))
        return made

    return make


@pytest.fixture
def run():
    def run(context):
        stage = FinetuneStage()
        stage.requires(context.config, context.inputs)
        result = stage.run(context)
        stage.ensures(context, result)
        return result

    return run


@pytest.mark.parametrize(
    ("task", "shape", "metric"),
    [
        ("multilabel", (3, "sigmoid"), "validation_accuracy"),
        ("regression", (2, None), "validation_mae"),
    ],
)
def test_each_task_has_its_metric(context, run, task, shape, metric):
    result = run(context(task, *shape, epochs=2, batch=16))
    assert set(result.metrics) == {"epochs", "validation_loss", metric}
    assert [artifact.kind for artifact in result.outputs] == ["keras-model", "training-log"]


def test_a_student_is_stored_with_its_own_layers_only(context, run):
    from stages.keras.stored import shared_model

    distill = Distill(features={"layers": ("conv",)})
    made = context("unlabelled", epochs=4, batch=16, learning_rate=0.02, distill=distill)
    before = shared_model(made, "model").get_weights()
    result = run(made)
    assert result.outputs[0].facts == made.inputs["model"].facts
    made.inputs = {"model": result.outputs[0]}
    trained = shared_model(made, "model").get_weights()
    assert not any(np.array_equal(a, b) for a, b in zip(before[:2], trained[:2], strict=True))
    log = json.loads((made.folder / result.outputs[1].files[0].digest.removeprefix("sha256:")).read_bytes())
    assert set(log["history"]) == {"loss", "distillation_loss", "val_loss", "lr"}
    assert set(result.metrics) == {"epochs", "validation_loss"}


def test_a_teacher_of_other_outputs_and_a_missing_one_are_refused(context, run):
    made = context(distill=Distill(), teacher_outputs=3)
    with pytest.raises(PreconditionError, match="can't be learned from"):
        run(made)
    del made.inputs["teacher"]
    with pytest.raises(PreconditionError, match="needs a teacher"):
        run(made)


def test_fewer_samples_than_a_batch_are_told_of(context, run):
    made = context(epochs=1, batch=500)
    run(made)
    assert made.warnings[0] == "70 training samples are fewer than a batch of 500: an epoch is one step"
    quiet = context(epochs=1, batch=70)
    run(quiet)
    assert not [told for told in quiet.warnings if "fewer" in told]


@pytest.mark.parametrize(
    ("settings", "advice"),
    [({}, "try a lower learning_rate, or `distill: {}`"), ({"distill": Distill()}, "try a lower learning_rate")],
)
def test_a_training_without_gain_is_told_of_and_is_epoch_0(context, run, settings, advice):
    made = context(epochs=2, batch=16, optimizer="sgd", learning_rate=1e-30, freeze_batch_norm=True, **settings)
    result = run(made)
    (told,) = made.warnings
    assert told.startswith("kept epoch 0 of 2: training did not improve the validation loss (")
    assert told.endswith(advice)
    facts = result.outputs[1].facts
    assert (facts.best_epoch, facts.epochs) == (0, 2)
    log = json.loads((made.folder / result.outputs[1].files[0].digest.removeprefix("sha256:")).read_bytes())
    assert (log["best_epoch"], log["start"]["val_loss"]) == (0, facts.best_validation_loss)
    assert result.metrics["validation_accuracy"] == log["start"]["val_accuracy"]


def test_weights_of_another_epoch_are_noticed(context, run):
    made = context(epochs=1, batch=16)
    result = run(made)
    result.metrics["validation_loss"] += 0.1
    with pytest.raises(PostconditionError, match="the log says"):
        FinetuneStage().ensures(made, result)
