"""Test that emptied groups are told, with a setting that really keeps them."""

import json

import numpy as np
import pytest
from ruamel.yaml import YAML

from stages.prune import PruneConfig, prune_model
from stages.prune.choosing.choice import ChoiceBasis

LEFT = 0.25  # of the source's channels


def kept(report):
    return {g.name: g.channels_after / g.channels_before for g in report.groups if not g.frozen}


def with_prevention(config, prevention):
    """Return the settings with what the report proposes, read as a recipe would be."""
    settings = json.loads(config.model_dump_json(exclude_unset=True))
    for name in ("compete", "scope") if "without" in prevention else ():
        settings.pop(name, None)
    for change in prevention.partition(" without")[:1]:
        changes = YAML(typ="safe").load(change)
        if "layers" in changes:
            changes["layers"] = settings["layers"] | changes["layers"]
        settings |= changes
    return PruneConfig.model_validate_json(json.dumps(settings))


def steep(graph_scores):
    """Return scores under which the groups named lose first, whatever else there is."""

    def score(model, groups, config, seed, samples, heard):
        rng = np.random.default_rng(0)
        return [rng.uniform(1, 2, group.channels.size) * graph_scores.get(group.name, 1.0) for group in groups]

    return ChoiceBasis(score=score)


@pytest.mark.parametrize(
    ("settings", "weak", "prevention"),
    [
        ({"criterion": "lamp", "ratio": 0.5}, {"block5_sepconv1": 0.1}, "compete: isomorphic"),
        ({"criterion": "lamp", "ratio": 0.5, "compete": "all"}, {"block1_conv1": 0.1}, "compete: isomorphic"),
        ({"criterion": "lamp", "macs": 0.5}, {"block5_sepconv1": 0.1}, "compete: isomorphic"),
        ({"criterion": "lamp", "macs": 0.5}, {"block3_sepconv1": 0.1}, "scope: layer"),
        # Its class has two more groups, so that even there it loses first.
        (
            {"criterion": "lamp", "ratio": 0.4, "compete": "isomorphic"},
            {"block2_sepconv1": 0.1},
            "scope: layer without compete",
        ),
        (
            {"criterion": "lamp", "ratio": 0.4, "exclude": ["block1_*"], "compete": "isomorphic"},
            {"block2_sepconv1": 0.1},
            "min_channels: 16",
        ),
        ({"layers": {"block4_*": 0.9, "block2_sepconv1": 0.3}}, {}, "layers: {block4_*: 0.75}"),
        ({"layers": {"block1_conv1": 0.75}, "round_to": 3}, {}, "min_channels: 4"),  # rounding takes the last one
        ({"criterion": "l2", "ratio": 0.9}, {}, None),
        ({"scope": "layer", "ratio": 0.8}, {}, None),
    ],
)
def test_the_proposed_setting_prevents_what_is_told(mini_xception, settings, weak, prevention):
    config, basis = PruneConfig.model_validate_json(json.dumps(settings)), steep(weak)
    report = prune_model(mini_xception, config, basis=basis).report
    emptied = [name for name, share in kept(report).items() if share < LEFT]
    assert [group.name for group in report.depleted] == emptied != []
    assert report.prevention == prevention
    (note,) = report.notes
    assert note.startswith(f"more than 75 % of the channels are gone: {emptied[0]} keeps ")
    if prevention is None:
        assert note.endswith("; ask for less to prevent this")
        return
    assert note.endswith(f"; {prevention} prevents this")
    better = prune_model(mini_xception, with_prevention(config, prevention), basis=basis).report
    assert min(kept(better).values()) >= LEFT
    assert (better.depleted, better.prevention, better.notes) == ((), None, ())
    if report.wanted is not None:
        assert better.reached == pytest.approx(report.wanted, abs=0.011)


def test_three_groups_are_named_and_the_others_counted(mini_xception):
    report = prune_model(mini_xception, PruneConfig(scope="layer", ratio=0.8, round_to=8)).report
    (note,) = report.notes
    names = [group.name for group in report.depleted]
    assert note.count(" keeps ") == 3
    assert f"{names[2]} keeps {report.depleted[2].channels_after} of {report.depleted[2].channels_in_source}" in note
    assert f" and {len(names) - 3} more; " in note


def test_three_quarters_are_not_more_than_three_quarters(mini_xception):
    report = prune_model(mini_xception, PruneConfig(scope="layer", ratio=0.75)).report
    assert set(kept(report).values()) == {LEFT}
    assert report.notes == ()


def test_in_steps_the_source_counts_and_a_group_is_told_when_it_happens(mini_xception):
    basis = ChoiceBasis(source=mini_xception)
    first = prune_model(mini_xception, PruneConfig(layers={"block4_sepconv1": 0.6}))
    assert first.report.notes == ()
    second = prune_model(first.model, PruneConfig(layers={"block4_sepconv1": 0.8}), basis=basis)
    (group,) = second.report.depleted
    assert (group.name, group.channels_in_source, group.channels_after) == ("block4_sepconv1", 128, 26)
    third = prune_model(second.model, PruneConfig(layers={"block2_sepconv1": 0.3}), basis=basis)
    assert third.report.depleted == ()


def test_a_measured_goal_is_held_by_what_layers_cost_alone(mini_xception):
    from stages.keras.macs import count_macs

    class Counting:
        """Cost what the MACs are, so that a measured goal can be met at once."""

        def costs(self, probes):
            return {probe: float(probe.macs) for probe in probes}, 0.0

        def share(self, model):
            return count_macs(model) / count_macs(mini_xception)

        def source_cost(self):
            return 1.0

    config = PruneConfig.model_validate(
        {"criterion": "lamp", "instructions": 0.5, "measure_on": {"target": "cpu"}, "compete": "all"}
    )
    basis = ChoiceBasis(score=steep({"block5_sepconv1": 0.1}).score, device=Counting())
    report = prune_model(mini_xception, config, basis=basis).report
    assert [group.name for group in report.depleted] == ["block5_sepconv1"]
    assert report.prevention == "compete: isomorphic"
    better = prune_model(mini_xception, with_prevention(config, report.prevention), basis=basis).report
    assert min(kept(better).values()) >= LEFT
