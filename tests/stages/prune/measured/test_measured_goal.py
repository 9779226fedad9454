"""Test targets met by measuring: the goal moves until the measured share fits, whatever the table said."""

import numpy as np
import pytest

from pipeline.errors import PreconditionError
from stages.keras.macs import count_macs
from stages.prune.choosing.choice import ChoiceBasis
from stages.prune.config import PruneConfig
from stages.prune.measured.measured_goal import Attempt, next_limit
from stages.prune.pruning import prune_model


class Biased:
    """Simulate a device on which single layers cost what they should, and whole networks have an additional
    fixed part.
    """

    def __init__(self, source, fixed):
        self.source, self.fixed, self.asked = count_macs(source), fixed, 0

    def costs(self, probes):
        return {probe: float(probe.macs) for probe in probes}, 0.0

    def share(self, model):
        self.asked += 1
        return self.fixed + (1 - self.fixed) * count_macs(model) / self.source

    def source_cost(self):
        return 2e6


def config(**settings):
    return PruneConfig.model_validate({"measure_on": {"target": "cpu"}} | settings)


@pytest.mark.parametrize("fixed", [0.0, 0.2, 0.35])
def test_the_measured_share_is_the_wanted_one(mini_xception, fixed):
    device = Biased(mini_xception, fixed)
    result = prune_model(mini_xception, config(instructions=0.5), basis=ChoiceBasis(device=device))
    measured = device.share(result.model)
    assert abs(measured / 0.5 - 1) <= 0.03
    assert (result.report.measure, result.report.wanted) == ("instructions", 0.5)
    assert result.report.reached == pytest.approx(measured)
    assert device.asked <= 6


def test_a_number_is_of_the_source(mini_xception):
    device = Biased(mini_xception, 0.1)
    result = prune_model(mini_xception, config(instructions=1.2e6), basis=ChoiceBasis(device=device))
    assert abs(device.share(result.model) / 0.6 - 1) <= 0.03


def test_in_steps_the_share_stays_that_of_the_source(mini_xception):
    device = Biased(mini_xception, 0.0)
    first = prune_model(mini_xception, config(instructions=0.75), basis=ChoiceBasis(device=device)).model
    second = prune_model(first, config(instructions=0.5), basis=ChoiceBasis(device=device, source=mini_xception)).model
    assert abs(device.share(second) / 0.5 - 1) <= 0.03
    assert count_macs(second) < count_macs(first)


def test_what_cannot_be_met_says_what_can(mini_xception):
    device = Biased(mini_xception, 0.6)
    with pytest.raises(PreconditionError, match=r"instructions .*can't") as caught:
        prune_model(mini_xception, config(instructions=0.55), basis=ChoiceBasis(device=device))
    assert caught.value.where == "prune.instructions"


def test_without_a_device_the_reason_is_told(mini_xception):
    with pytest.raises(PreconditionError, match="measure_on asks a device"):
        prune_model(mini_xception, config(round_to="auto"))


def test_rounding_goes_by_the_devices_steps(mini_xception):
    class Tiled(Biased):
        def costs(self, probes):
            return {p: float(np.ceil(p.outputs / 16) * np.ceil(p.inputs / 16)) for p in probes}, 0.0

    result = prune_model(
        mini_xception, config(round_to="auto", macs=0.5), basis=ChoiceBasis(device=Tiled(mini_xception, 0))
    )
    kept = [group.channels_after for group in result.report.groups if not group.frozen]
    assert all(count % 16 == 0 for count in kept)
    assert abs(result.report.reached - 0.5) < 0.06


def test_between_two_attempts_the_next_lies_in_proportion():
    attempts = [Attempt(0.5, 0.5, 0.6)]
    assert next_limit(attempts, 0.5) == pytest.approx(0.5 * 0.5 / 0.6)
    attempts.append(Attempt(0.4, 0.4, 0.45))
    assert next_limit(attempts, 0.5) == pytest.approx(0.4 + 0.1 / 3)
    one_side = [Attempt(0.5, 0.5, 0.7), Attempt(0.3, 0.3, 0.6)]
    assert next_limit(one_side, 0.5) == pytest.approx(0.1)


def test_a_goal_that_leads_nowhere_new_is_left_further_behind():
    same = [Attempt(0.5, 0.52, 0.6), Attempt(0.52 * 0.5 / 0.6, 0.52, 0.6)]
    assert next_limit(same, 0.5) == pytest.approx(0.52 - 2 * (0.52 - 0.52 * 0.5 / 0.6))
    between = [Attempt(0.5, 0.5, 0.6), Attempt(0.4, 0.4, 0.45), Attempt(0.4 + 0.1 / 3, 0.4, 0.45)]
    further = next_limit(between, 0.5)
    assert further == pytest.approx(0.4 + 2 * 0.1 / 3)
    assert next_limit([*between, Attempt(further, 0.5, 0.6)], 0.5) is None  # there is nothing between


def test_scope_loss_spends_what_a_device_measures(mini_xception):
    device = Biased(mini_xception, 0.1)
    images = np.random.default_rng(0).uniform(-1, 1, (6, 28, 28, 1)).astype(np.float32)
    settings = config(instructions=0.5, criterion="obs", scope="loss", search=3, round_to="auto")
    result = prune_model(mini_xception, settings, images, basis=ChoiceBasis(device=device))
    assert abs(device.share(result.model) / 0.5 - 1) <= 0.03
