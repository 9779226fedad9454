import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import rfc8785

from pipeline.contracts.events import Warned
from pipeline.errors import PostconditionError
from stages.keras.normal_form import decode_model, keras_facts
from stages.prune import stage as stage_module
from stages.prune.config import PruneConfig
from stages.prune.stage import PruneStage


@pytest.fixture
def small(keras, randomize):
    vector = keras.Input((4,))
    x = keras.layers.Dense(9, activation="relu", name="second")(keras.layers.Dense(12, name="first")(vector))
    return randomize(keras.Model(vector, keras.layers.Dense(2, name="head")(x), name="small"))


def test_a_model_goes_in_a_smaller_one_and_a_report_come_out(mini_xception, context):
    made = context(mini_xception, PruneConfig(ratio=0.5, round_to=8))
    stage = PruneStage()
    stage.requires(made.config, made.inputs)
    result = stage.run(made)
    stage.ensures(made, result)
    model, report = result.outputs
    assert (model.kind, report.kind) == ("keras-model", "prune-report")
    made.inputs = {"model": model, "report": report}
    loaded = decode_model(made.read("model", "model.keras"))
    assert keras_facts(loaded) == model.facts
    assert loaded.get_layer("block2_add").output_shape[-1] == loaded.get_layer("block3_shortcut").kernel.shape[2]

    loaded.compile("sgd", "sparse_categorical_crossentropy")
    kernel = loaded.get_layer("block3_sepconv1").pointwise_kernel
    before = kernel.numpy()
    loss = loaded.train_on_batch(np.random.default_rng(0).standard_normal((4, 28, 28, 1)), np.arange(4))
    assert np.isfinite(loss)
    assert (kernel.numpy() != before).any()

    data = made.read("report", "prune-report.json").read_bytes()
    written = json.loads(data)
    assert rfc8785.dumps(written) == data
    assert written["channels_after"] == report.facts.channels_after == 360
    assert (report.facts.groups, report.facts.frozen_groups) == (10, 2)
    assert written["groups"][-1]["frozen"] == ["head: softmax across channels", "head: model output"]
    assert result.metrics == {
        "params": model.facts.params,
        "macs": model.facts.macs,
        "channels_removed": 0.5,
        "equivalence_error": report.facts.equivalence_error,
    }
    assert made.heard == []


def test_equal_inputs_give_equal_bytes(small, context):
    made = context(small, PruneConfig(criterion="random", ratio=0.3))
    first, again = (PruneStage().run(made) for _ in range(2))
    assert [output.digest for output in first.outputs] == [output.digest for output in again.outputs]
    other = PruneStage().run(replace(made, seed=8))
    assert other.outputs[0].digest != first.outputs[0].digest


def test_a_share_that_rounding_forbids_is_told(small, context):
    made = context(small, PruneConfig(ratio=0.5, exclude=("second",), round_to=8))
    PruneStage().run(made)
    (event,) = made.heard
    assert isinstance(event, Warned)
    assert event.message.startswith(
        "0.667 of the channels are left, not 0.500: one more step of any group comes no nearer"
    )


def test_a_budget_that_is_not_used_up_is_told():
    config = PruneConfig(criterion="hessian", scope="loss", macs=0.5)
    assert "keeps within a budget" in stage_module._no_nearer(config, "macs")
    assert "comes no nearer" in stage_module._no_nearer(config, "channels")


def test_an_emptied_group_is_told_in_a_warning_the_report_and_the_facts(mini_xception, context):
    made = context(mini_xception, PruneConfig(layers={"block4_sepconv1": 0.9}))
    result = PruneStage().run(made)
    note = (
        "more than 75 % of the channels are gone: block4_sepconv1 keeps 13 of 128; "
        "layers: {block4_sepconv1: 0.75} prevents this"
    )
    assert [event.message for event in made.heard] == [note]
    report = result.outputs[1]
    assert report.facts.notes == (note,)
    made.inputs = {"report": report}
    written = json.loads(made.read("report", "prune-report.json").read_bytes())
    assert written["schema_version"] == 3
    assert written["depleted"] == [{"name": "block4_sepconv1", "channels_in_source": 128, "channels_after": 13}]
    assert written["prevention"] == "layers: {block4_sepconv1: 0.75}"


def test_facts_without_notes_are_written_as_before_there_were_any(small, context):
    report = PruneStage().run(context(small, PruneConfig())).outputs[1]
    assert "notes" not in report.model_dump(mode="json")["facts"]
    told = report.model_copy(update={"facts": report.facts.model_copy(update={"notes": ("so",)})})
    assert type(report).model_validate_json(told.model_dump_json()) == told
    assert type(report).model_validate_json(report.model_dump_json()) == report


def test_ensures_refuses_a_result_that_is_not_exact_or_not_smaller(small, context):
    made = context(small, PruneConfig())
    stage = PruneStage()
    result = stage.run(made)
    model, report = result.outputs
    for error in (1e-3, 1e9):
        inexact = report.model_copy(update={"facts": report.facts.model_copy(update={"equivalence_error": error})})
        with pytest.raises(PostconditionError, match="differs"):
            stage.ensures(made, replace(result, outputs=(model, inexact)))
    with pytest.raises(PostconditionError, match="as many parameters"):
        stage.ensures(made, replace(result, outputs=(made.inputs["model"], report)))


def test_nothing_is_written_when_the_check_fails(small, context, monkeypatch):
    made = context(small, PruneConfig())
    before = set(made.folder.iterdir())
    monkeypatch.setattr("stages.prune.surgery.equivalence.TOLERANCE", -1.0)  # even no difference is too much
    with pytest.raises(PostconditionError):
        PruneStage().run(made)
    assert set(made.folder.iterdir()) == before


def test_importing_the_package_brings_in_nothing_heavy():
    code = (
        "import sys, stages.prune, stages.prune.stage\n"
        "print({'numpy', 'tensorflow', 'tf_keras', 'kerassurgeon'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "set()"
