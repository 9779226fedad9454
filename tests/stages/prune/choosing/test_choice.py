import numpy as np
import pytest

from pipeline.errors import PreconditionError
from stages.keras.tensorflow import import_tensorflow
from stages.prune import PruneConfig, prune_model
from stages.prune.choosing.choice import ChoiceBasis


@pytest.mark.parametrize("criterion", ["l2", "lamp", "fpgm", "hessian"])
@pytest.mark.parametrize("measure", ["macs", "params", "bytes"])
def test_targets_are_met_within_two_percent(mini_xception, criterion, measure):
    images = np.random.default_rng(0).uniform(-1, 1, (3, 28, 28, 1)).astype(np.float32)
    report = prune_model(mini_xception, PruneConfig(criterion=criterion, **{measure: 0.4}), data=images).report
    before, after = (
        (report.macs_before, report.macs_after) if measure == "macs" else (report.params_before, report.params_after)
    )
    assert after / before == pytest.approx(0.4, rel=0.02)
    assert report.reached == pytest.approx(after / before)
    assert (report.measure, report.wanted) == (measure, 0.4)


def test_a_target_above_one_is_a_number(mini_xception):
    report = prune_model(mini_xception, PruneConfig(params=30_000, scope="layer")).report
    assert report.params_after == pytest.approx(30_000, rel=0.02)


def test_a_target_out_of_reach_names_what_limits_it(mini_xception):
    with pytest.raises(PreconditionError, match=r"macs can't come down to 0\.0100 of the source") as caught:
        prune_model(mini_xception, PruneConfig(macs=0.01, exclude=("block2_*", "block3_*")))
    assert "block3_sepconv" in caught.value.hint
    assert "exclude set the floors" in caught.value.hint


def test_ratios_go_by_the_source_where_pruning_is_done_in_steps(mini_xception):
    first = prune_model(mini_xception, PruneConfig(ratio=0.25))
    basis = ChoiceBasis(source=mini_xception)
    second = prune_model(first.model, PruneConfig(ratio=0.5), basis=basis)
    assert second.report.channels_after == pytest.approx(first.report.channels_before / 2, abs=1)
    assert second.report.reached == pytest.approx(0.5, abs=0.01)
    target = prune_model(first.model, PruneConfig(params=0.3), basis=basis).report
    assert target.params_after == pytest.approx(0.3 * first.report.params_before, rel=0.02)


def test_sensitivity_takes_most_where_it_costs_least(mini_xception):
    names = [group.name for group in prune_model(mini_xception, PruneConfig(ratio=0.5)).report.groups]
    drops = dict.fromkeys(names, ((0.5, 0.4), (0.9, 0.8))) | {"block5_sepconv1": ((0.5, 0.0), (0.9, 0.01))}
    config = PruneConfig(scope="sensitivity", ratio=0.4)
    report = prune_model(mini_xception, config, basis=ChoiceBasis(drops=drops)).report
    left = {group.name: group.channels_after / group.channels_before for group in report.groups if not group.frozen}
    assert left.pop("block5_sepconv1") < 0.15
    assert min(left.values()) > 0.5
    with pytest.raises(PreconditionError, match="goes by a scan, and there is none"):
        prune_model(mini_xception, config)


def test_no_target_on_macs_that_are_not_known(keras):
    tf, layers = import_tensorflow(), keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="first")(image)
    x = layers.Conv2D(8, 3)(x)
    x = layers.Lambda(lambda x: tf.map_fn(lambda one: tf.matmul(one, one, transpose_b=True), x), name="own")(x)
    model = keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(PreconditionError, match=r"the MACs of own .* are not known: no share of them") as caught:
        prune_model(model, PruneConfig(macs=0.5))
    assert "prune to params" in caught.value.hint
    report = prune_model(model, PruneConfig(params=0.8)).report
    assert report.macs_unknown == ("own (Lambda: a loop or branch around products)",)
    assert report.macs_after < report.macs_before


@pytest.mark.parametrize("criterion", ["taylor", "hessian", "obs"])
@pytest.mark.parametrize("goal", [{"ratio": 0.4}, {"macs": 0.5}, {"params": 0.4}, {"bytes": 0.4}])
def test_scope_loss_meets_each_goal_from_below(mini_xception, criterion, goal):
    rng = np.random.default_rng(0)
    data = rng.uniform(-1, 1, (4, 28, 28, 1)).astype(np.float32), rng.integers(0, 10, 4)
    config = PruneConfig(criterion=criterion, scope="loss", search=0, round_to=4, min_channels=8, **goal)
    report = prune_model(mini_xception, config, data).report
    assert report.wanted - 0.02 < report.reached <= report.wanted + 1e-9
    left = [group.channels_after for group in report.groups if not group.frozen]
    assert all(count >= 8 and count % 4 == 0 for count in left)
    assert len({group.channels_after / group.channels_before for group in report.groups}) > 2


def falling(model, groups, *_):
    """Score channels so that each group's first is worth most; the first group is worth more than all others."""
    return [10.0 ** (3 * (place == 0)) * np.arange(group.channels.size, 0, -1.0) for place, group in enumerate(groups)]


def test_scope_loss_takes_from_where_it_costs_least_also_in_steps(mini_xception):
    config = PruneConfig(criterion="obs", scope="loss", ratio=0.5)
    basis = ChoiceBasis(score=falling)
    whole = prune_model(mini_xception, config, basis=basis).report
    assert whole.groups[0].channels_after == whole.groups[0].channels_before
    assert all(group.removed[-1:] == (group.channels_before - 1,) for group in whole.groups if group.removed)
    first = prune_model(mini_xception, config.at_step(lambda share: share / 2), basis=basis)
    assert first.report.reached == pytest.approx(0.75, abs=0.003)
    basis = ChoiceBasis(score=falling, source=mini_xception)
    second = prune_model(first.model, config, basis=basis).report
    assert second.reached == pytest.approx(0.5, abs=0.003)
    assert second.params_after == pytest.approx(whole.params_after, rel=0.05)
