import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax
from scipy.stats import entropy

from stages.keras.regression.probabilities import Probabilities, divergence, squashed

RNG = np.random.default_rng(0)
SQUASHINGS = ("softmax", "sigmoid")


def drawn(count=400, unknowns=6, outputs=4):
    """Return rows off center, and sums that are no linear function of them."""
    rows = 2.0 + RNG.standard_normal((count, unknowns)) * np.arange(1, unknowns + 1)
    sums = rows @ RNG.standard_normal((unknowns, outputs)) - 3.0
    return rows, sums + 0.1 * np.abs(sums) ** 1.5, np.arange(count) % 5 != 4


def collected(squashing, rows, sums, fitted):
    found = Probabilities(squashing)
    for start in range(0, len(rows), 70):
        part = slice(start, start + 70)
        found.add(rows[part], sums[part], fitted[part])
    return found


def least_squares(rows, sums):
    solution = np.linalg.lstsq(np.column_stack([rows, np.ones(len(rows))]), sums, rcond=None)[0]
    return solution[:-1], solution[-1]


def of_scipy(wanted, made, squashing):
    """Return the mean divergence of what two arrays of sums stand for, by SciPy alone."""
    if squashing == "softmax":
        return entropy(softmax(wanted, axis=1), np.exp(log_softmax(made, axis=1)), axis=1).mean()
    pairs = [np.stack([expit(each), expit(-each)]) for each in (wanted, made)]
    return entropy(*pairs, axis=0).sum(axis=1).mean()


@pytest.mark.parametrize("squashing", SQUASHINGS)
def test_divergence_is_that_of_the_textbook(squashing):
    wanted, made = 3 * RNG.standard_normal((2, 50, 4))
    found = divergence(squashed(wanted, squashing), squashed(made, squashing), squashing)
    assert found == pytest.approx(of_scipy(wanted, made, squashing), rel=1e-6)
    huge = squashed(np.array([[2e3, -2e3]]), squashing)
    np.testing.assert_array_equal(huge, [[1, 0]])


@pytest.mark.parametrize("squashing", SQUASHINGS)
def test_less_diverges_than_by_least_squares_on_samples_held_out(squashing):
    rows, sums, fitted = drawn()
    weights, offset = least_squares(rows[fitted], sums[fitted])
    found = collected(squashing, rows, sums, fitted).fit(weights, offset, with_offset=True)
    held_out = rows[~fitted], sums[~fitted]
    before = of_scipy(held_out[1], held_out[0] @ weights + offset, squashing)
    after = of_scipy(held_out[1], held_out[0] @ found.weights + found.offset, squashing)
    assert found.divergence_before == pytest.approx(before, rel=1e-3)
    assert found.divergence_after == pytest.approx(after, rel=1e-3)
    assert after < 0.8 * before


@pytest.mark.parametrize("with_offset", [True, False])
def test_the_minimum_is_where_nothing_nearby_is_lower(with_offset, monkeypatch):
    rows, sums, fitted = drawn()
    rows[:, 0] = 7.0  # of a channel that is dead but for its offset
    penalty = 1e-2
    monkeypatch.setattr("stages.keras.regression.probabilities.PENALTIES", (penalty,))
    weights, offset = least_squares(rows[fitted], sums[fitted])
    found = collected("softmax", rows, sums, fitted).fit(weights, offset, with_offset=with_offset)
    assert (found.offset == offset).all() is not with_offset

    center = rows[fitted].mean(axis=0) * with_offset
    spread = np.sqrt(np.square(rows[fitted] - center).mean(axis=0))
    spread[spread == 0] = 1

    def objective(changed, shift):
        scaled = (changed - weights) * spread[:, None]
        loss = of_scipy(sums[fitted], rows[fitted] @ changed + shift, "softmax")
        return loss + penalty / 2 * np.square(scaled).sum()

    least = objective(found.weights, found.offset)
    for _ in range(20):
        step = 0.05 * RNG.standard_normal(weights.shape) / spread[:, None]
        assert objective(found.weights + step, found.offset - center @ step) > least


def test_what_the_layer_has_stays_if_nothing_is_better():
    rows, _, fitted = drawn()
    weights, offset = RNG.standard_normal((6, 4)), RNG.standard_normal(4)
    exact = collected("softmax", rows, rows @ weights + offset, fitted)
    assert exact.fit(weights, offset, with_offset=True) is None


@pytest.mark.parametrize(
    ("shape", "samples", "worth"),
    [
        ((1, 100, 10), 400, True),
        ((1, 100, 10), 399, False),
        ((1, 1280, 1000), 5_120, False),
        ((1, 2_000, 1), 15_600, True),
        ((1, 2_000, 1), 15_700, False),
    ],
)
def test_few_samples_and_long_computing_are_left_to_least_squares(shape, samples, worth):
    assert (Probabilities.of("softmax", shape, samples) is not None) is worth
