import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stages.keras.regression.normal_equations import Moments, Solution, ridge_regression


def problem(seed=0, groups=2, count=60, unknowns=5, outputs=3, mean=0.0):
    rng = np.random.default_rng(seed)
    rows = mean + rng.standard_normal((groups, count, unknowns)) * np.array([0.1, 1, 3, 1, 0.5])[:unknowns]
    targets = mean / 2 + rows @ rng.standard_normal((groups, unknowns, outputs))
    return rows, targets + rng.standard_normal(targets.shape)


def summed(rows, targets, parts=(7, 1, 20), centered=True):
    moments = Moments(rows.shape[0], rows.shape[2], targets.shape[2], centered)
    for some, other in zip(
        np.split(rows, np.cumsum(parts), axis=1), np.split(targets, np.cumsum(parts), axis=1), strict=True
    ):
        moments.add(some, other)
    return moments


def by_lstsq(rows, targets, ridge, centered=True):
    """Solve the same system from its rows, one group at a time: the ridge is more rows."""
    weights = []
    for p, r in zip(rows, targets, strict=True):
        seen, wanted = (p - p.mean(0), r - r.mean(0)) if centered else (p, r)
        scale = np.square(seen).mean(axis=0).mean()
        more = np.sqrt(len(seen) * ridge * (scale or 1.0)) * np.eye(seen.shape[1])
        nothing = np.zeros((len(more), wanted.shape[1]))
        weights.append(np.linalg.lstsq(np.vstack([seen, more]), np.vstack([wanted, nothing]), rcond=None)[0])
    return np.stack(weights)


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("mean", [0.0, 1000.0])
@pytest.mark.parametrize("ridge", [1e-6, 1e-3, 1.0])
def test_solutions_are_those_of_least_squares(ridge, mean, centered):
    rows, targets = problem(mean=mean if centered else 1.0)
    found = summed(rows, targets, centered=centered).solve(ridge)
    np.testing.assert_allclose(found.weights, by_lstsq(rows, targets, ridge, centered), rtol=1e-6, atol=1e-6)
    offset = (targets - rows @ found.weights).mean(axis=1) if centered else np.zeros((2, 3))
    np.testing.assert_allclose(found.offset, offset, rtol=1e-6, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    rows=arrays(np.float64, (1, 9, 4), elements=st.integers(-8, 8).map(float)),
    targets=arrays(np.float64, (1, 9, 2), elements=st.integers(-8, 8).map(float)),
    mean=st.sampled_from([0.0, 50.0, -3e4]),
    parts=st.lists(st.integers(0, 4), min_size=1, max_size=2),
    ridge=st.sampled_from([1e-4, 1e-2, 1.0]),
)
def test_any_rows_in_any_batches(rows, targets, mean, parts, ridge):
    """Constant, dead, equal and fewer columns than rows are among them."""
    rows = rows + mean
    moments = summed(rows, targets, parts)
    found = moments.solve(ridge)
    np.testing.assert_allclose(found.weights, by_lstsq(rows, targets, ridge), rtol=1e-6, atol=1e-6)
    error = np.square(targets - rows @ found.weights - found.offset[:, None]).mean(axis=1)
    np.testing.assert_allclose(moments.error(found), error, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("centered", [True, False])
def test_the_error_of_any_solution_is_that_of_the_rows(centered):
    rows, targets = problem(mean=30.0)
    moments, rng = summed(rows, targets, centered=centered), np.random.default_rng(3)
    solution = Solution(rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 3)))
    error = np.square(targets - rows @ solution.weights - solution.offset[:, None]).mean(axis=1)
    np.testing.assert_allclose(moments.error(solution), error, rtol=1e-9)


def test_constant_and_dead_columns_get_no_weight():
    rows, targets = problem()
    rows[:, :, 1], rows[:, :, 3] = 5.0, 0.0
    found = summed(rows, targets).solve(1e-3)
    assert np.abs(found.weights[:, [1, 3]]).max() < 1e-12
    assert np.abs(found.weights[:, [0, 2, 4]]).max() > 0.1
    nothing = summed(np.full_like(rows, 2.0), targets).solve(1e-3)
    assert not nothing.weights.any()
    np.testing.assert_allclose(nothing.offset, targets.mean(axis=1))


def test_variance_and_power_of_the_targets():
    rows, targets = problem(mean=10.0)
    moments = summed(rows, targets)
    np.testing.assert_allclose(moments.variance(), targets.var(axis=1))
    np.testing.assert_allclose(moments.power(), np.square(targets).mean(axis=1))
    assert moments.count == 60


def test_an_offset_for_given_weights():
    rows, targets = problem(mean=4.0)
    weights = np.ones((2, 5, 3))
    solution = summed(rows, targets).with_offset(weights)
    assert solution.weights is weights
    np.testing.assert_allclose(solution.offset, (targets - rows.sum(-1, keepdims=True)).mean(axis=1))


def test_the_ridge_is_a_share_of_the_mean_variance():
    covariance, cross = np.diag([1.0, 3.0])[None], np.ones((1, 2, 1))
    found = ridge_regression(covariance.copy(), cross, 0.5)
    np.testing.assert_allclose(found[0, :, 0], [1 / 2, 1 / 4])


def test_the_mean_of_the_rows_is_theirs_whatever_the_batches():
    rng = np.random.default_rng(0)
    rows = 100 + rng.standard_normal((2, 30, 4))
    moments = Moments(2, 4, 0)
    for part in np.split(rows, [7, 20], axis=1):
        moments.add(part, np.empty((*part.shape[:2], 0)))
    np.testing.assert_allclose(moments.row_means, rows.mean(axis=1))
