from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import PreconditionError
from stages.prune.choosing.choice import ChoiceBasis, prepare
from stages.prune.choosing.searched import searched, weighed
from stages.prune.config import PruneConfig
from stages.prune.pruning import prune_model, weigh_groups
from stages.prune.weighing.report import SHARES
from stages.prune.weighing.weigh import weigh
from stages.samples.model_samples import samples_of

TRIES = 6


@pytest.fixture(scope="module")
def network(keras):
    """Return a network of three groups of channels that names three classes, and samples for it."""
    x = np.random.default_rng(0).standard_normal((60, 8, 8, 1)).astype(np.float32)
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    made = image
    for name in "abc":
        made = keras.layers.Conv2D(8, 3, activation="relu", name=name)(made)
    head = keras.layers.Dense(3, activation="softmax", name="head")(keras.layers.GlobalAveragePooling2D()(made))
    return keras.Model(image, head), x


def prepared(network, **settings):
    model, x = network
    config = PruneConfig(criterion="obs", scope="loss", search=TRIES, **({"macs": 0.4, "search_at": 0.5} | settings))
    samples = samples_of(model, x)
    basis = ChoiceBasis(samples=samples)
    return prepare(model, config, basis), samples, basis


@pytest.fixture(scope="module")
def weighing(network):
    before, samples, basis = prepared(network)
    return weigh(before, samples, basis)


def test_the_search_is_that_of_the_target_where_it_runs(network, weighing):
    before, samples, basis = prepared(network)
    least, most = (before.goal.cost([counts[end] for counts in before.allowed]) for end in (0, -1))
    goal = replace(before.goal, limit=(least + most) / 2)
    _, own = searched(replace(before, goal=goal), samples, basis)
    assert weighing.search == own


def test_all_targets_share_it(network, weighing):
    reports = []
    for settings in ({}, {"macs": 0.7}, {"macs": 1.0}):
        before, samples, basis = prepared(network, **settings)
        reports.append(weigh(before, samples, basis))
    assert reports == [weighing] * 3


def test_what_is_foreseen_is_what_a_search_judges(network, weighing):
    lefts = tuple(target.left for target in weighing.targets)
    assert lefts == SHARES[-len(lefts) :]
    for target in (weighing.targets[0], weighing.targets[-1]):
        before, samples, basis = prepared(network, macs=target.left)
        choice = weighed(before, weighing.search).choice()
        assert choice.reached == pytest.approx(target.reached)
        # One try at this target, by the factors that were found: the same network, judged on its own.
        one = before.config.model_copy(update={"search": 1})
        ranking = replace(
            before.ranking,
            scores=[
                weighing.search.factors[group.name] * own
                for group, own in zip(before.ranking.graph.prunable, before.ranking.scores, strict=True)
            ],
        )
        _, judged = searched(replace(before, config=one, ranking=ranking), samples, basis)
        assert judged.output_error == pytest.approx(target.output_error, rel=1e-6)


def test_agreement_is_counted_on_the_samples_that_were_held_out(network, weighing):
    counts = [target.agreement * (len(network[1]) // 5) for target in weighing.targets]
    assert counts == pytest.approx([round(count) for count in counts])
    assert weighing.targets[-1].agreement >= weighing.targets[0].agreement


def test_pruning_goes_by_it_and_tells_it(network, weighing):
    model, x = network
    config = PruneConfig(criterion="obs", scope="loss", search=TRIES, macs=0.4, search_at=0.5)
    assert weigh_groups(model, config, x, 0) == weighing
    given = prune_model(model, config, x, basis=ChoiceBasis(weighing=weighing)).report
    assert given == prune_model(model, config, x).report
    assert given.search == weighing.search
    assert given.reached <= 0.4


def test_without_a_choice_nothing_is_searched(network):
    before, samples, basis = prepared(network, exclude=("a", "b"), macs=0.9)
    report = weigh(before, samples, basis)
    assert report.search is None
    assert weighed(before, report.search) is before


def test_too_few_samples_are_told(network):
    before, samples, basis = prepared(network)
    with pytest.raises(PreconditionError, match="every 5th sample, and there are 4"):
        weigh(before, samples.first(4), basis)
