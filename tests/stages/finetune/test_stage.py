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

    made = context("unlabelled", epochs=2, batch=16, distill=Distill(features={"layers": ("conv",)}))
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
    assert made.warnings == ["70 training samples are fewer than a batch of 500: an epoch is one step"]
    quiet = context(epochs=1, batch=70)
    run(quiet)
    assert quiet.warnings == []


def test_weights_of_another_epoch_are_noticed(context, run):
    made = context(epochs=1, batch=16)
    result = run(made)
    result.metrics["validation_loss"] += 0.1
    with pytest.raises(PostconditionError, match="the log says"):
        FinetuneStage().ensures(made, result)
