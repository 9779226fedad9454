from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.prune.ranking import brain_surgeon
from stages.prune.ranking.brain_surgeon import Reader, removal_losses

RIDGE = 1e-2


def random_layer(rng, channels, rows, outputs=3):
    """Return the covariance of correlated inputs, `rows` of them for each channel, and weights that read them."""
    unknowns = channels * rows
    seen = rng.standard_normal((4 * unknowns, unknowns)) @ rng.standard_normal((unknowns, unknowns))
    return np.cov(seen.T, bias=True).reshape(unknowns, unknowns), rng.standard_normal((unknowns, outputs))


def reader_of(covariance, weights, channels):
    return Reader(np.asarray(channels), weights @ weights.T, np.linalg.inv(covariance + RIDGE * np.eye(len(weights))))


def error_without(covariance, weights, gone):
    """Return half the squared error, and the ridge on the change, if the other rows are solved anew by lstsq."""
    root = np.linalg.cholesky(covariance + RIDGE * np.eye(len(weights))).T
    stay = np.setdiff1d(np.arange(len(weights)), gone)
    others = np.linalg.lstsq(root[:, stay], root @ weights, rcond=None)[0]
    return 0.5 * np.square(root[:, stay] @ others - root @ weights).sum()


def rows_of(channels, rows):
    return np.concatenate([np.arange(channel * rows, (channel + 1) * rows) for channel in channels])


def greedy(layers, channels, rows):
    """Return the order of removal, and the error after each, by trying each channel that is left."""
    order, errors = [], []
    while len(order) < channels:
        left = [channel for channel in range(channels) if channel not in order]
        found = [sum(error_without(*layer, rows_of([*order, channel], rows)) for layer in layers) for channel in left]
        errors.append(min(found))
        order.append(left[int(np.argmin(found))])
    return order, errors


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_a_cost_is_the_rise_of_the_error_when_the_others_are_solved_again(rows):
    covariance, weights = random_layer(np.random.default_rng(0), 6, rows)
    reader, gone = reader_of(covariance, weights, range(6)), []
    for channel in (4, 0, 3):
        before = error_without(covariance, weights, rows_of(gone, rows)) if gone else 0.0
        for left in set(range(6)) - set(gone):
            expected = error_without(covariance, weights, rows_of([*gone, left], rows)) - before
            assert reader.costs[left] == pytest.approx(expected, rel=1e-6)
        reader.remove(channel)
        gone.append(channel)


@given(seed=st.integers(0, 10_000), channels=st.integers(1, 6), rows=st.integers(1, 3), layers=st.integers(1, 2))
def test_the_order_and_the_sums_are_those_of_trying_everything(seed, channels, rows, layers):
    rng = np.random.default_rng(seed)
    made = [random_layer(rng, channels, rows) for _ in range(layers)]
    order, errors = greedy(made, channels, rows)
    losses = removal_losses([reader_of(*layer, range(channels)) for layer in made], channels)
    assert np.argsort(losses).tolist() == order
    rises = np.diff([0.0, *errors])
    np.testing.assert_allclose(losses[order], np.maximum.accumulate(rises), rtol=1e-6, atol=1e-9)


def test_losses_are_strictly_ordered_and_never_fall_even_if_they_are_all_the_same():
    for weights in (np.zeros((70, 2)), np.ones((70, 2))):
        losses = removal_losses([reader_of(np.eye(70), weights, range(70))], 70)
        assert np.argsort(losses).tolist() == list(range(70))
        assert all(low < high for low, high in pairwise(losses))


def test_dead_channels_and_duplicates_cost_next_to_nothing_and_go_first():
    rng = np.random.default_rng(1)
    seen = rng.standard_normal((500, 6))
    seen[:, 2] = 3.0  # a constant: the bias takes it over
    seen[:, 5] = seen[:, 1]
    losses = removal_losses([reader_of(np.cov(seen.T, bias=True), rng.standard_normal((6, 3)), range(6))], 6)
    first, second, third, *_ = np.argsort(losses)
    assert first == 2 or second == 2
    assert {first, second} - {2} <= {1, 5}
    assert losses[[first, second]].max() < 0.1 * losses[third]  # the ridge


def test_readers_of_some_channels_only_add_up_with_those_of_all():
    rng = np.random.default_rng(2)
    whole, part = random_layer(rng, 5, 1), random_layer(rng, 2, 3)
    losses = removal_losses([reader_of(*whole, range(5)), reader_of(*part, [1, 4])], 5)
    order, before = [], 0.0
    while len(order) < 5:
        errors = {}
        for channel in set(range(5)) - set(order):
            inside = [place for place, own in enumerate([1, 4]) if own in [*order, channel]]
            errors[channel] = error_without(*whole, [*order, channel])
            errors[channel] += error_without(*part, rows_of(inside, 3)) if inside else 0.0
        order.append(min(errors, key=errors.get))
        assert losses[order[-1]] == pytest.approx(max(errors[order[-1]] - before, losses[order[:-1]].max(initial=0)))
        before = errors[order[-1]]
    assert np.argsort(losses).tolist() == order


@pytest.mark.parametrize("rows", [1, 4])
def test_updates_that_wait_change_nothing(rows, monkeypatch):
    covariance, weights = random_layer(np.random.default_rng(3), 40, rows)
    found = []
    for pending in (1, 7, 10_000):
        monkeypatch.setattr(brain_surgeon, "PENDING", pending)
        found.append(removal_losses([reader_of(covariance, weights, range(40))], 40))
    for losses in found[1:]:
        np.testing.assert_allclose(losses, found[0], rtol=1e-6)
