from itertools import pairwise

import numpy as np
import pytest

from stages.keras.regression.linear_layers import LinearLayer, outputs_of
from stages.keras.regression.normal_equations import Moments
from stages.keras.regression.separable import TURNS, SeparableLayer

ALL = slice(None)
RIDGE = 1e-3


@pytest.fixture
def layer(keras):
    built = keras.layers.SeparableConv1D(4, 3, depth_multiplier=2, padding="same")
    built.build((None, 6, 3))
    rng = np.random.default_rng(0)
    built.set_weights([rng.standard_normal(weight.shape) for weight in built.get_weights()])
    return built


@pytest.fixture
def moments(layer):
    """Return sums of the windows, with residuals of the outputs of another layer and noise."""
    rng = np.random.default_rng(1)
    inputs = (2.0 + rng.standard_normal((40, 6, 3))).astype(np.float32)
    picks = np.broadcast_to(np.arange(6), (40, 6))
    view = SeparableLayer(layer)
    rows = view.rows(inputs, (40, 6, 4), picks)
    wanted = outputs_of(rows, view.matrices + rng.standard_normal(view.matrices.shape), np.zeros(4))
    made = Moments(1, 9, 4)
    made.add(rows, (wanted - outputs_of(rows, view.matrices, np.zeros(4)))[None])
    return made, LinearLayer(layer).rows(inputs, (40, 6, 4), picks), rows


def test_each_half_of_a_turn_brings_the_outputs_nearer(layer, moments):
    sums, _, _ = moments
    errors = [sums.error(sums.with_offset(c.change)).sum() for c in SeparableLayer(layer).candidates(sums, 1e-9, ALL)]
    assert len(errors) == 2 * TURNS
    assert all(after <= before * (1 + 1e-9) for before, after in pairwise(errors))
    assert errors[-1] < 0.95 * errors[0]


def test_the_first_half_is_the_regression_of_the_pointwise_kernel(layer, moments):
    """The same problem in rows: what the depthwise kernel computes, and the ridge as more rows."""
    sums, filtered, rows = moments
    first = next(iter(SeparableLayer(layer).candidates(sums, RIDGE, ALL)))
    pointwise = layer.pointwise_kernel.numpy()[0].astype(np.float64)
    (seen,) = filtered - filtered.mean(axis=1, keepdims=True)
    count, unknowns = seen.shape
    together = SeparableLayer(layer).matrices
    # The residual that the sums hold, from their solution without a ridge: the targets are linear in the windows.
    exact = sums.solve(1e-12).weights
    residual = ((rows - rows.mean(axis=1, keepdims=True)) @ exact)[0]
    ridge = np.sqrt(count * RIDGE * np.square(seen).mean(axis=0).mean())
    change = np.linalg.lstsq(
        np.vstack([seen, ridge * np.eye(unknowns)]), np.vstack([residual, np.zeros((unknowns, 4))]), rcond=None
    )[0]
    ((depthwise_variable, depthwise), (pointwise_variable, found)) = first.write(together)
    assert (depthwise_variable, pointwise_variable) == (layer.depthwise_kernel, layer.pointwise_kernel)
    np.testing.assert_array_equal(depthwise, layer.depthwise_kernel)
    np.testing.assert_allclose(found[0], pointwise + change, rtol=1e-6, atol=1e-6)


def test_a_candidate_writes_the_kernels_that_make_its_change(layer, moments):
    view = SeparableLayer(layer)
    before = view.matrices
    *_, last = view.candidates(moments[0], RIDGE, ALL)
    for variable, values in last.write(before):
        variable.assign(values)
    np.testing.assert_allclose(view.matrices, before + last.change, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(view.offset, LinearLayer(layer).offset)
