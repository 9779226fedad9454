import numpy as np
import pytest

from pipeline.errors import PreconditionError
from stages.keras.normal_form import decode_model
from stages.keras.sparsity import plan_of
from stages.prune.config import PruneConfig
from stages.prune.stage import PruneStage


def pruned(model, context, **settings):
    made = context(model, PruneConfig(method="unstructured", **settings))
    stage = PruneStage()
    stage.requires(made.config, made.inputs)
    result = stage.run(made)
    stage.ensures(made, result)
    keras_model, report = result.outputs
    made.inputs = {"model": keras_model}
    return decode_model(made.read("model", "model.keras")), report.facts, plan_of(made), result


def kernels(model):
    return {layer.name: [w for w in layer.get_weights() if w.ndim > 1] for layer in model.layers if layer.weights}


def zeros(model, layer):
    return sum(int((kernel == 0).sum()) for kernel in kernels(model)[layer])


def test_the_smallest_of_each_layer(blocks, context):
    before = kernels(blocks)["block1_conv2"][0]
    model, facts, plan, result = pruned(blocks, context, criterion="magnitude", scope="layer", ratio=0.75)
    after = kernels(model)["block1_conv2"][0]
    assert (after == 0).sum() == after.size * 3 // 4
    assert np.abs(before[after == 0]).max() <= np.abs(after[after != 0]).min()
    np.testing.assert_array_equal(after[after != 0], before[after != 0])
    assert all(share == pytest.approx(0.75, abs=0.05) for share in facts.layers.values())
    assert facts.zeros / facts.weights == pytest.approx(result.metrics["sparsity"])
    assert facts.gzip_bytes < 0.6 * facts.weight_bytes
    assert plan.reached_at == 0
    assert {kernel.layer for kernel in plan.kernels} == set(facts.layers)


def test_one_ranking_over_the_network(blocks, context):
    _, facts, *_ = pruned(blocks, context, ratio=0.5)
    assert facts.zeros == facts.weights - round(facts.weights / 2)
    assert max(facts.layers.values()) > 0.6


def test_a_count_of_each_layer_at_random(blocks, context):
    model, facts, *_ = pruned(blocks, context, criterion="random", sparsity={"count": 7}, exclude=("head",))
    assert zeros(model, "block1_conv1") == zeros(model, "block1_conv2") == 7
    assert zeros(model, "head") == 0
    assert "head" not in facts.layers


def test_only_named_layers(blocks, context):
    model, facts, *_ = pruned(blocks, context, layers={"block1_*": 0.5})
    assert set(facts.layers) == {"block1_conv1", "block1_conv2"}
    assert zeros(model, "block2_shortcut") == 0


def test_two_of_four_inputs(blocks, context):
    model, *_ = pruned(blocks, context, sparsity={"pattern": "2:4"})
    kernel = kernels(model)["block1_conv2"][0]
    fours = np.moveaxis(kernel, -2, -1).reshape(-1, 4)
    assert ((fours != 0).sum(axis=1) == 2).all()
    assert zeros(model, "block2_sepconv1") == kernels(model)["block2_sepconv1"][1].size // 2  # not the depthwise kernel


def test_a_polynomial_schedule_begins_with_nothing(blocks, context):
    _, facts, plan, _ = pruned(blocks, context, ratio=0.5, sparsity={"schedule": "polynomial"})
    assert facts.zeros == 0
    assert plan.reached_at == 0.7


def test_equal_inputs_give_equal_bytes_and_the_seed_counts(blocks, context):
    made = context(blocks, PruneConfig(method="unstructured", criterion="random", ratio=0.3))
    first, again = (PruneStage().run(made) for _ in range(2))
    assert [output.digest for output in first.outputs] == [output.digest for output in again.outputs]
    made.seed = 8
    assert PruneStage().run(made).outputs[0].digest != first.outputs[0].digest


def test_a_count_that_would_empty_a_layer(blocks, context):
    with pytest.raises(PreconditionError, match="would empty block1_conv1 \\(144\\)"):
        pruned(blocks, context, sparsity={"count": 144})
