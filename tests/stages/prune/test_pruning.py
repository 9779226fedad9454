import numpy as np
import pytest

from pipeline.errors import ModelError, PostconditionError, PreconditionError
from stages.prune import PruneConfig, PruneResult, prune_model, pruning


@pytest.mark.parametrize(
    ("criterion", "scope"), [("l1", "layer"), ("l2", "global"), ("bn_scale", "global"), ("random", "layer")]
)
def test_mini_xception_by_half(mini_xception, criterion, scope):
    result = prune_model(mini_xception, PruneConfig(criterion=criterion, scope=scope, ratio=0.5, round_to=8), seed=3)
    report = result.report
    assert isinstance(result, PruneResult)
    assert report.equivalence_error < 1e-5
    assert report.masking_effect > 0.01
    assert report.removed_share == pytest.approx(0.5, abs=8 / 720)
    assert report.channels_before == 720
    assert report.params_after < 0.4 * report.params_before
    assert report.macs_after < 0.4 * report.macs_before
    assert all(group.channels_after % 8 == 0 for group in report.groups if not group.frozen)
    assert result.model.output_shape == (None, 10)
    assert result.model.count_params() == report.params_after


def test_the_report_tells_what_went(mini_xception):
    result = prune_model(mini_xception, PruneConfig(ratio=0.25, exclude=("block2_*",)))
    groups = {group.name: group for group in result.report.groups}
    assert sum(group.channels_before - group.channels_after for group in groups.values()) == round(
        0.25 * result.report.channels_before
    )
    for name in ("block2_sepconv1", "block2_sepconv2", "block1_conv2"):  # the last by block2's depthwise kernel
        assert groups[name].channels_before == groups[name].channels_after
        assert any('excluded by "block2_*"' in reason for reason in groups[name].frozen)
    group = groups["block5_sepconv1"]
    kept = [i for i in range(group.channels_before) if i not in group.removed]
    np.testing.assert_array_equal(
        result.model.get_layer("head").get_weights()[0], mini_xception.get_layer("head").get_weights()[0][kept]
    )


def test_the_least_important_go_first(keras, randomize):
    vector = keras.Input((4,))
    model = randomize(keras.Model(vector, keras.layers.Dense(2)(keras.layers.Dense(4, name="hidden")(vector))))
    kernel = np.array([0.5, 0.1, 0.9, 0.2]) * np.ones((4, 4))
    model.get_layer("hidden").kernel.assign(kernel)
    report = prune_model(model, PruneConfig(ratio=0.5)).report
    assert next(group.removed for group in report.groups if group.name == "hidden") == (1, 3)


def test_ratio_zero_changes_nothing(mini_xception):
    report = prune_model(mini_xception, PruneConfig(ratio=0.0)).report
    assert report.removed_share == report.equivalence_error == report.masking_effect == 0.0


def test_data_stands_in_for_random_inputs(mini_xception):
    images = np.random.default_rng(0).uniform(-1, 1, (6, 28, 28, 1)).astype(np.float32)
    report = prune_model(mini_xception, PruneConfig(), data=images).report
    assert 0 < report.masking_effect != prune_model(mini_xception, PruneConfig()).report.masking_effect
    with pytest.raises(PreconditionError, match="2 arrays, the model has 1"):
        prune_model(mini_xception, PruneConfig(), data=[images, images])


def test_groups_that_the_criterion_cannot_rank_are_frozen(keras, randomize):
    image = keras.Input((5, 5, 1))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 2, name="with_norm")(image))
    x = keras.layers.Flatten()(keras.layers.Conv2D(4, 2, name="without")(x))
    model = randomize(keras.Model(image, keras.layers.Dense(2)(x)))
    groups = {group.name: group for group in prune_model(model, PruneConfig(criterion="bn_scale")).report.groups}
    assert groups["without"].frozen == ("without: bn_scale has nothing to rank its channels by",)
    assert (groups["with_norm"].channels_after, groups["without"].channels_after) == (2, 4)


def test_nothing_to_prune_says_why(keras):
    vector = keras.Input((4,), name="vector")
    model = keras.Model(vector, keras.layers.Dense(3, name="only")(vector), name="tiny")
    with pytest.raises(PreconditionError, match="no channel of this model") as caught:
        prune_model(model, PruneConfig())
    assert caught.value.where == "tiny"
    assert "only: model output" in caught.value.hint


def test_rounding_that_leaves_nothing_to_take(keras, randomize):
    vector = keras.Input((4,))
    model = randomize(keras.Model(vector, keras.layers.Dense(2)(keras.layers.Dense(9)(vector))))
    with pytest.raises(PreconditionError, match="nothing is taken away with round_to 8"):
        prune_model(model, PruneConfig(ratio=0.01, round_to=8))


def test_weights_that_are_no_numbers(mini_xception):
    mini_xception.get_layer("block3_sepconv1_bn").gamma.assign(np.full(128, np.nan))
    with pytest.raises(ModelError, match="NaN") as caught:
        prune_model(mini_xception, PruneConfig())
    assert caught.value.where == "block3_sepconv1_bn"


def test_surgery_that_went_wrong_gives_no_result(mini_xception, monkeypatch):
    def wrong(model, graph, keep):
        pruned = remove(model, graph, keep)
        pruned.get_layer("block4_sepconv1_bn").gamma.assign_add(
            1e-2 * np.ones(pruned.get_layer("block4_sepconv1_bn").gamma.shape)
        )
        return pruned

    remove = pruning.remove_channels
    monkeypatch.setattr(pruning, "remove_channels", wrong)
    with pytest.raises(PostconditionError, match="differs from the masked original"):
        prune_model(mini_xception, PruneConfig())


def faint(keras, randomize):
    """Make the hidden channels a million times weaker than the path that bypasses them."""
    vector = keras.Input((4,))
    loud = keras.layers.Dense(2, name="loud")(vector)
    soft = keras.layers.Dense(2, name="soft")(keras.layers.Dense(6, name="hidden")(vector))
    model = randomize(keras.Model(vector, keras.layers.Add()([loud, soft])))
    model.get_layer("soft").kernel.assign(1e-6 * model.get_layer("soft").kernel)
    return model


def test_channels_that_hardly_matter_are_checked_on_random_weights(keras, randomize, monkeypatch):
    model = faint(keras, randomize)
    report = prune_model(model, PruneConfig(ratio=0.5)).report
    assert report.masking_effect < 1e-4
    assert report.equivalence_error < 1e-5

    def wrong(model, graph, keep):
        pruned = remove(model, graph, keep)
        kernel, bias = pruned.get_layer("soft").get_weights()
        pruned.get_layer("soft").set_weights([kernel[::-1], bias])
        return pruned

    remove = pruning.remove_channels
    monkeypatch.setattr(pruning, "remove_channels", wrong)
    with pytest.raises(PostconditionError, match="differs from the masked original"):
        prune_model(model, PruneConfig(ratio=0.5))


def test_scores_that_were_computed_before_rank_in_the_criterion_s_place(mini_xception):
    from stages.prune.choosing.choice import ChoiceBasis
    from stages.prune.ranking.scoring import group_scores

    config, asked = PruneConfig(criterion="l2", ratio=0.3), []
    kept = {}

    def remembered(*arguments):
        asked.append(len(arguments[1]))
        return kept.setdefault("l2", group_scores(*arguments))

    def reversed_(*arguments):
        return [-scores for scores in group_scores(*arguments)]

    plain = prune_model(mini_xception, config)
    first, again = (prune_model(mini_xception, config, basis=ChoiceBasis(score=remembered)) for _ in range(2))
    assert asked == [asked[0]] * 2
    assert first.report == again.report == plain.report
    other = prune_model(mini_xception, config, basis=ChoiceBasis(score=reversed_)).report
    pairs = zip(plain.report.groups, other.groups, strict=True)
    assert any(set(one.removed).isdisjoint(two.removed) for one, two in pairs if one.removed and two.removed)
