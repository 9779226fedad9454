from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from pipeline.errors import PreconditionError
from stages.prune.choosing.choice import ChoiceBasis, prepare
from stages.prune.choosing.searched import searched
from stages.prune.choosing.stitched import Stitched
from stages.prune.config import PruneConfig
from stages.prune.pruning import prune_model
from stages.prune.ranking.criterion import Question
from stages.reconstruct.config import ReconstructConfig
from stages.reconstruct.reconstruction import reconstruct
from stages.samples.batches import unheard
from stages.samples.model_samples import samples_of

TRIES = 8


@pytest.fixture(scope="module")
def network(keras):
    """Return a network of three groups of channels, and samples for it."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 8, 8, 1)).astype(np.float32)
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    a = keras.layers.Conv2D(8, 3, activation="relu", name="a")(image)
    b = keras.layers.Conv2D(8, 3, activation="relu", name="b")(a)
    b = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(b))
    c = keras.layers.Conv2D(8, 3, activation="relu", name="c")(b)
    model = keras.Model(image, keras.layers.Dense(3, name="head")(keras.layers.GlobalAveragePooling2D()(c)))
    return model, x


def prepared(network, **settings):
    model, x = network
    config = PruneConfig(criterion="obs", scope="loss", search=TRIES, **({"macs": 0.4} | settings))
    samples = samples_of(model, x)
    basis = ChoiceBasis(samples=samples)
    return prepare(model, config, basis), samples, basis


def test_the_best_distribution_of_the_goal_is_taken(network):
    before, samples, basis = prepared(network)
    heard = []
    after, report = searched(before, samples, replace(basis, heard=lambda *of: heard.append(of)))
    assert report.tried == TRIES
    assert heard[0] == (0, TRIES)
    assert heard[-1] == (TRIES, TRIES)
    assert report.output_error < report.output_error_of_equal
    assert set(report.factors) == {"a", "b", "c"}
    assert after.choice().counts != before.choice().counts
    assert after.choice().reached <= 0.4
    again, other = searched(before, samples, basis)
    assert (again.choice().counts, other.factors) == (after.choice().counts, report.factors)
    # Other limits, as a measured goal tries them, are spent by the same factors.
    looser = after.choice(0.6 * before.goal.whole)
    assert 0.4 < looser.reached <= 0.6


def test_pruned_and_re_fitted_in_earnest_the_network_is_nearer_to_the_source(network):
    model, x = network
    own, errors = model(x).numpy(), []
    for search in (0, TRIES):
        config = PruneConfig(criterion="obs", scope="loss", macs=0.4, search=search)
        result = prune_model(model, config, x)
        assert (result.report.search is None) == (search == 0)
        errors.append(refitted_error(result, model, x, own))
    assert errors[1] < errors[0]


def refitted_error(result, model, x, own):
    kept = {name: np.asarray(left) for name, left in result.report.kept.items()}
    with TemporaryDirectory() as folder:
        config = ReconstructConfig(samples=len(x))
        fitted = reconstruct(result.model, model, kept, len(x), lambda at: [x[at]], config, 0, Path(folder)).model
    return np.square(fitted(x).numpy() - own).mean()


def test_what_is_judged_is_the_stitched_network_on_the_samples_that_it_was_not_fitted_to(network, tmp_path):
    model, x = network
    before, samples, basis = prepared(network)
    _, report = searched(before, samples, basis)
    held_out = np.arange(len(x)) % 5 == 4
    question = Question(model, before.ranking.graph.prunable, 0, samples_of(model, x[~held_out]), unheard)
    stitched = Stitched.of(question, tmp_path)
    stitched.keep(before.choice().keep)
    own, made = (each(x[held_out]).numpy().astype(np.float64) for each in (model, stitched.model))
    expected = np.square(own - made).sum(axis=1).mean() / own.var(axis=0).sum()
    assert report.output_error_of_equal == pytest.approx(expected, rel=1e-4)


def test_without_a_choice_there_is_no_search(network):
    for settings in ({"exclude": ("a", "b")}, {"macs": None, "ratio": 0.0}):
        before, samples, basis = prepared(network, **settings)
        after, report = searched(before, samples, basis)
        assert (after, report) == (before, None)


def test_a_goal_out_of_reach_is_told_before_any_work(network):
    heard = []
    before, samples, basis = prepared(network, macs=1e-6, min_channels=4)
    with pytest.raises(PreconditionError, match="can't come down"):
        searched(before, samples, replace(basis, heard=lambda *of: heard.append(of)))
    assert not heard


def test_too_few_samples_are_told(network):
    before, samples, basis = prepared(network)
    with pytest.raises(PreconditionError, match="every 5th sample, and there are 4") as caught:
        searched(before, samples.first(4), basis)
    assert "search: 0" in caught.value.hint
