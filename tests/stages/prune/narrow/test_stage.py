import subprocess
import sys

import numpy as np
import pytest

from pipeline.contracts.events import Warned
from pipeline.errors import PostconditionError, PreconditionError
from pipeline.records.artifacts import Artifact
from stages.finetune.config import FinetuneConfig
from stages.keras.normal_form import MEDIA_TYPE, MODEL_FILE, decode_model, encode_model, keras_facts
from stages.prune.config import PruneConfig, SparsityConfig
from stages.prune.narrow.config import NarrowConfig
from stages.prune.narrow.stage import NarrowStage
from stages.prune.pruning import prune_model


@pytest.fixture
def beside(context):
    """Return the context of the network beside a pruning of a model."""

    def make(model, pruning, **settings):
        made = context(model, NarrowConfig(**settings))
        pruned = prune_model(model, pruning).model
        file = made.write(MODEL_FILE, encode_model(pruned), MEDIA_TYPE)
        made.inputs = {"model": Artifact(files=(file,), facts=keras_facts(pruned)), "source": made.inputs["model"]}
        return made

    return make


def run(context):
    stage = NarrowStage()
    stage.requires(context.config, context.inputs)
    result = stage.run(context)
    stage.ensures(context, result)
    return result


def test_the_source_becomes_narrower_to_the_pruned_model_s_macs_with_new_weights(mini_xception, beside):
    made = beside(mini_xception, PruneConfig(criterion="bn_scale", ratio=0.5))
    result = run(made)
    (artifact,) = result.outputs
    assert artifact.facts.macs == pytest.approx(made.inputs["model"].facts.macs, rel=0.02)
    assert (artifact.facts.inputs, artifact.facts.outputs) == (
        made.inputs["source"].facts.inputs,
        made.inputs["source"].facts.outputs,
    )
    assert result.metrics["macs"] == artifact.facts.macs
    assert 0.3 < result.metrics["width"] < 0.9
    assert made.heard == []
    made.inputs = {"narrow": artifact}
    model = decode_model(made.read("narrow", MODEL_FILE))
    kernel, source = (m.get_layer("block2_sepconv1").pointwise_kernel.numpy() for m in (model, mini_xception))
    rows, columns = kernel.shape[2:]
    assert rows < source.shape[2]
    assert abs(np.corrcoef(kernel.ravel(), source[:, :, :rows, :columns].ravel())[0, 1]) < 0.1  # no slice of it


def test_equal_inputs_give_equal_bytes_and_another_seed_other_weights(blocks, beside):
    made = beside(blocks, PruneConfig(macs=0.5))
    first, again = run(made), run(made)
    assert first.outputs[0].digest == again.outputs[0].digest
    made.seed = 8
    other = run(made)
    assert other.outputs[0].digest != first.outputs[0].digest
    assert other.outputs[0].facts == first.outputs[0].facts


def test_only_the_macs_of_the_pruned_model_count(blocks, beside):
    made = beside(blocks, PruneConfig(macs=0.5))
    first = run(made)
    facts = made.inputs["model"].facts
    made.inputs = {"model": made.inputs["source"].model_copy(update={"facts": facts}), "source": made.inputs["source"]}
    assert run(made).outputs[0].digest == first.outputs[0].digest


def test_macs_that_no_uniform_width_has_are_told(blocks, beside):
    made = beside(blocks, PruneConfig(macs=0.5), min_channels=60, round_to=32)
    result = run(made)
    (event,) = made.heard
    assert isinstance(event, Warned)
    share = result.metrics["macs"] / made.inputs["source"].facts.macs
    assert event.message.startswith(f"the uniformly narrower network has {share:.3f} of the source's MACs, the pruned")
    assert "round_to 32, min_channels 60" in event.message


def test_layers_that_were_frozen_are_named(blocks, beside):
    blocks.get_layer("block2_sepconv1").trainable = False
    made = beside(blocks, PruneConfig(macs=0.5))
    run(made)
    (event,) = made.heard
    assert event.message.startswith("block2_sepconv1 frozen in the source are trained")


def test_a_model_in_a_model_becomes_one_network(keras, nested, beside):
    image = keras.Input((4,), name="x")
    made = beside(keras.Model(image, nested(image)), PruneConfig(macs=0.5))
    facts = run(made).outputs[0].facts
    assert facts.macs < made.inputs["source"].facts.macs
    assert [spec.name for spec in facts.inputs] == ["x"]


def test_macs_that_are_not_known_are_refused_before_any_work(blocks, beside):
    made = beside(blocks, PruneConfig(ratio=0.5))
    facts = made.inputs["source"].facts.model_copy(update={"macs_unknown": ("odd (a user's code)",)})
    inputs = {**made.inputs, "source": made.inputs["source"].model_copy(update={"facts": facts})}
    with pytest.raises(PreconditionError, match=r"the MACs of odd .* are not known") as caught:
        NarrowStage().requires(made.config, inputs)
    assert caught.value.where == "control.narrow"


def test_a_network_with_other_outputs_is_refused(blocks, beside):
    made = beside(blocks, PruneConfig(macs=0.5))
    result = run(made)
    facts = made.inputs["source"].facts.model_copy(update={"outputs": ()})
    made.inputs = {**made.inputs, "source": made.inputs["source"].model_copy(update={"facts": facts})}
    with pytest.raises(PostconditionError, match="other inputs or outputs"):
        NarrowStage().ensures(made, result)


def test_it_stands_beside_what_takes_channels_away():
    stage = NarrowStage()
    assert stage.narrowing(PruneConfig(round_to=8)) == NarrowConfig(round_to=8)
    assert stage.narrowing(PruneConfig(method="unstructured", sparsity=SparsityConfig())) is None
    assert stage.narrowing(FinetuneConfig()) is None


def test_importing_it_brings_in_nothing_heavy():
    code = (
        "import sys, stages.prune.narrow.stage\n"
        "print({'numpy', 'tensorflow', 'tf_keras', 'kerassurgeon'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
