import numpy as np
import pytest

from stages.keras.regression.grids import Grid
from stages.keras.regression.normal_equations import Moments
from stages.keras.regression.rounded_layer import RoundedLayer
from stages.keras.tensorflow import import_keras

LAYERS = import_keras().layers
KINDS = {
    "convolution": lambda: LAYERS.Conv2D(5, 3),
    "grouped": lambda: LAYERS.Conv2D(6, 3, groups=3),
    "depthwise": lambda: LAYERS.DepthwiseConv2D(3, depth_multiplier=2),
    "separable": lambda: LAYERS.SeparableConv2D(5, 3),
    "transposed": lambda: LAYERS.Conv2DTranspose(5, 3, strides=2),
    "dense": lambda: LAYERS.Dense(16),
    "one axis": lambda: LAYERS.Conv1D(5, 3, dilation_rate=2),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_each_kind_comes_nearer_to_the_original_than_by_nearest_rounding(kind, seed):
    import_keras().utils.set_random_seed(seed)
    original, layer = KINDS[kind](), KINDS[kind]()
    shape = (9, 12) if kind == "one axis" else (7, 7, 12)
    inputs = np.random.default_rng(seed).standard_normal((6, *shape)).astype(np.float32)
    inputs += 2 * np.roll(inputs, 1, axis=1) + 2 * inputs.mean(axis=-1, keepdims=True)  # neighbors that are alike
    wanted = original(inputs).numpy()
    layer.build(inputs.shape)
    layer.set_weights(original.get_weights())
    grid = Grid(7)
    view = RoundedLayer.of(layer, grid, adaptive=True)
    places = np.broadcast_to(np.arange(np.prod(wanted.shape[1:-1])), (6, int(np.prod(wanted.shape[1:-1]))))
    rows = view.rows(inputs, wanted.shape, places)
    groups, unknowns, outputs = view.shape
    residual = (wanted - layer(inputs).numpy()).reshape(-1, groups, outputs).swapaxes(0, 1)
    moments = Moments(groups, unknowns, outputs)
    moments.add(rows, residual.astype(np.float64))
    changes = [candidate.change for candidate in view.candidates(moments, 1e-2, slice(None))]
    assert not changes[0].any()
    errors = [float(moments.error(moments.with_offset(change)).sum()) for change in changes]
    assert min(errors[1:]) < 0.97 * errors[0]
    best = changes[int(np.argmin(errors))]
    ((variable, values),) = view.written(view.matrices + best)
    variable.assign(values)
    made = (wanted - layer(inputs).numpy()).reshape(-1, groups * outputs)
    assert np.square(made - made.mean(axis=0)).mean(axis=0).sum() == pytest.approx(min(errors), rel=1e-3)
    assert np.abs(view.codes).max(axis=1).tolist() == [7] * (groups * outputs)


def test_without_adaptive_only_what_a_bias_can_correct_is_offered():
    layer = LAYERS.Dense(3)
    layer.build((None, 4))
    view, moments = RoundedLayer.of(layer, Grid(127), adaptive=False), Moments(1, 4, 3)
    moments.add(np.ones((1, 2, 4)), np.ones((1, 2, 3)))
    assert [candidate.change.any() for candidate in view.candidates(moments, 1e-2, slice(None))] == [False]


def test_codes_are_the_kernel_in_steps():
    layer = LAYERS.Dense(2)
    layer.build((None, 2))
    layer.set_weights([np.array([[0.5, 3.0], [-2.54, 0.0]], np.float32), np.zeros(2)])
    assert RoundedLayer.of(layer, Grid(127), adaptive=True).codes.tolist() == [[25, -127], [127, 0]]
    np.testing.assert_allclose(layer.kernel, [[0.5, 3.0], [-2.54, 0.0]], atol=0.011)
