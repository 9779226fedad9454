import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.keras.regression import grids
from stages.keras.regression.grids import Grid


def drawn(seed, groups=2, unknowns=12, outputs=3, rows=40):
    """Return weights (G, U, O) and the Gram matrices (G, U, U) of inputs that depend on each other."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((groups, rows, unknowns)) @ rng.standard_normal((groups, unknowns, unknowns))
    gram = inputs.swapaxes(1, 2) @ inputs / rows + 1e-3 * np.eye(unknowns)
    return rng.standard_normal((groups, unknowns, outputs)), gram


def squared(difference, gram):
    return np.einsum("guo,guv,gvo->go", difference, gram, difference)


def by_the_inverse(wanted, gram, steps, limit, points):
    """Round one column by optimal brain compression as its paper writes it: the inverse Hessian shrinks each time."""
    left, weights = list(np.argsort(-np.diag(gram), kind="stable")), wanted.copy()
    inverse = np.linalg.inv(gram)
    while left:
        place = left[0]
        code = np.clip(np.rint(weights[place] / steps), -limit, limit)
        point = points[place] if abs(round(points[place] / steps)) == limit else code * steps
        weights -= inverse[:, place] / inverse[place, place] * (weights[place] - point)
        weights[place] = point
        inverse -= np.outer(inverse[:, place], inverse[place]) / inverse[place, place]
        left.pop(0)
    return weights


@pytest.mark.parametrize("chunk", [128, 5])
def test_it_is_optimal_brain_compression(monkeypatch, chunk):
    monkeypatch.setattr(grids, "CHUNK", chunk)
    weights, gram = drawn(1)
    grid = Grid(7)
    steps = grid.steps(weights)
    points = grid.nearest(weights, steps)
    found = grid.fed_back(weights, gram, points, steps)
    changed = 0
    for g, o in np.ndindex(2, 3):
        expected = by_the_inverse(weights[g, :, o], gram[g], steps[g, 0, o], 7, points[g, :, o])
        if squared((weights - points)[g : g + 1], gram[g : g + 1])[0, o] > (
            (expected - weights[g, :, o]) @ gram[g] @ (expected - weights[g, :, o])
        ):
            np.testing.assert_allclose(found[g, :, o], expected, atol=1e-9)
            changed += 1
        else:
            np.testing.assert_array_equal(found[g, :, o], points[g, :, o])
    assert changed >= 4


@given(st.integers(0, 10**6), st.sampled_from([3, 64, 127]), st.booleans())
def test_no_channel_is_worse_and_each_keeps_its_step(seed, limit, per_channel):
    weights, gram = drawn(seed)
    grid = Grid(limit, per_channel)
    steps = grid.steps(weights)
    points = grid.nearest(weights, steps)
    found = grid.fed_back(weights, gram, points, steps)
    before, after = squared(weights - points, gram), squared(weights - found, gram)
    assert (after <= before).all()
    assert after.sum() < 0.9 * before.sum()
    codes = found / steps
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-6)
    assert np.abs(codes).max() == pytest.approx(limit)
    np.testing.assert_allclose(grid.steps(found), steps)  # so a quantizer takes the same ones


def test_steps_are_the_largest_weights_share():
    weights = np.array([[[0.5, 0.0], [-2.54, 0.0]]])
    np.testing.assert_allclose(Grid(127).steps(weights), [[[0.02, 1.0]]])
    np.testing.assert_allclose(Grid(127, per_channel=False).steps(weights), [[[0.02, 0.02]]])
    assert Grid(127).nearest(weights, Grid(127).steps(weights)).tolist() == [[[0.5, 0.0], [-2.54, 0.0]]]
