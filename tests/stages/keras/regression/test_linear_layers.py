from itertools import product
from math import prod

import numpy as np
import pytest

from stages.keras.layer_kinds import kind_of
from stages.keras.regression.linear_layers import (
    LinearLayer,
    is_linear,
    outputs_of,
    spatial_sizes,
    to_kernel,
    to_matrices,
)
from stages.keras.regression.normal_equations import Moments
from stages.keras.regression.separable import SeparableLayer
from stages.keras.tensorflow import import_keras, import_tensorflow

WALKS = ({}, {"strides": 2}, {"dilation_rate": 2})
PADDINGS = ("same", "valid")
SHAPES = {"1D": (7, 4), "2D": (6, 5, 4), "3D": (4, 5, 3, 4)}


def convolutions():
    for rank, walk, padding, groups in product(SHAPES, WALKS, PADDINGS, (1, 2)):
        yield f"Conv{rank}", {"filters": 6, "kernel_size": 2 if rank == "3D" else 3, "groups": groups} | walk, padding
    for walk in (*WALKS, {"strides": 3}):
        yield "Conv1D", {"filters": 6, "kernel_size": 3} | walk, "causal"
    yield "Conv2D", {"filters": 8, "kernel_size": (3, 2), "groups": 4, "strides": (3, 2)}, "same"  # depthwise by groups
    yield "Conv2D", {"filters": 2, "kernel_size": (3, 2), "dilation_rate": (1, 2)}, "valid"


def transposed():
    for rank, padding, (kernel, stride) in product(SHAPES, PADDINGS, ((3, 1), (3, 2), (2, 3), (4, 2))):
        yield f"Conv{rank}Transpose", {"filters": 3, "kernel_size": kernel, "strides": stride}, padding
    for rank, padding in product(SHAPES, PADDINGS):
        settings = {"filters": 3, "kernel_size": 3, "strides": 2, "output_padding": 1}
        yield f"Conv{rank}Transpose", settings, padding
    for rank, padding in product(("2D", "3D"), PADDINGS):
        yield f"Conv{rank}Transpose", {"filters": 3, "kernel_size": 3, "dilation_rate": 2}, padding


def by_channel():
    for rank, walk, padding in product(("1D", "2D"), WALKS, PADDINGS):
        yield f"DepthwiseConv{rank}", {"kernel_size": 3, "depth_multiplier": 2} | walk, padding
        yield f"SeparableConv{rank}", {"filters": 5, "kernel_size": 3, "depth_multiplier": 2} | walk, padding
    yield "SeparableConv1D", {"filters": 5, "kernel_size": 3, "dilation_rate": 2}, "causal"


LAYERS = [*convolutions(), *transposed(), *by_channel()]
NAMES = [f"{name}-{padding}-{'-'.join(map(str, settings.values()))}" for name, settings, padding in LAYERS]


def agree(layer, shape):
    """Check each view of a layer with random weights against what Keras computes, at all positions."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((2, *shape)).astype(np.float32)
    layer.build((None, *shape))
    layer.set_weights([rng.standard_normal(weight.shape) for weight in layer.get_weights()])
    try:
        made = layer(inputs).numpy()
    except import_tensorflow().errors.OpError as error:
        pytest.skip(f"TensorFlow does not compute this here: {str(error)[:80]}")
    assert tuple(layer.compute_output_shape(inputs.shape)) == made.shape
    spatial = spatial_sizes(layer, made.shape)
    picks = np.broadcast_to(np.arange(prod(spatial)), (2, prod(spatial)))
    first = getattr(layer, "data_format", None) == "channels_first"
    wanted = np.moveaxis(made, 1, -1) if first else made
    views = [LinearLayer(layer), *([SeparableLayer(layer)] if kind_of(layer).separable else [])]
    for view in views:
        found = outputs_of(view.rows(inputs, made.shape, picks), view.matrices, view.offset)
        np.testing.assert_allclose(found, wanted.reshape(found.shape), rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
    assert LinearLayer(layer).outputs == wanted.shape[-1]


@pytest.mark.parametrize(("name", "settings", "padding"), LAYERS, ids=NAMES)
def test_rows_times_matrices_are_what_keras_computes(name, settings, padding):
    shape = SHAPES[name.removesuffix("Transpose")[-2:]]
    agree(getattr(import_keras().layers, name)(**settings, padding=padding), shape)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Conv1D", {"filters": 6}),
        ("Conv2D", {"filters": 6, "strides": 2}),
        ("Conv3D", {"filters": 6}),
        ("Conv2DTranspose", {"filters": 3, "strides": 2}),
        ("DepthwiseConv2D", {"depth_multiplier": 2}),
        ("SeparableConv2D", {"filters": 5, "depth_multiplier": 2}),
    ],
)
def test_channels_first(name, settings):
    *spatial, channels = SHAPES[name.removesuffix("Transpose")[-2:]]
    layer = getattr(import_keras().layers, name)(
        kernel_size=3, padding="same", data_format="channels_first", **settings
    )
    agree(layer, (channels, *spatial))


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (2, 2, 3, 4)])
def test_dense_layers_at_each_position(shape):
    agree(import_keras().layers.Dense(5), shape)


@pytest.mark.parametrize(("name", "settings", "padding"), LAYERS[::5], ids=NAMES[::5])
def test_kernels_come_back_whole(name, settings, padding):
    layer = getattr(import_keras().layers, name)(**settings, padding=padding)
    layer.build((None, *SHAPES[name.removesuffix("Transpose")[-2:]]))
    for kernel in kind_of(layer).kernels:
        shape = tuple(getattr(layer, kernel.weight).shape)
        values = np.random.default_rng(0).standard_normal(shape)
        matrices = to_matrices(values, kernel, getattr(layer, "groups", 1))
        assert matrices.ndim == 3
        np.testing.assert_array_equal(to_kernel(matrices, shape, kernel), values)


def test_rows_at_some_positions_are_those_of_all(keras):
    layer = keras.layers.Conv2D(3, 3, padding="same")
    inputs = np.random.default_rng(0).standard_normal((2, 4, 5, 2)).astype(np.float32)
    made = layer(inputs)
    everything = np.broadcast_to(np.arange(20), (2, 20))
    picks = np.array([[0, 7, 19], [3, 4, 12]])
    linear = LinearLayer(layer)
    rows = linear.rows(inputs, made.shape, everything).reshape(2, 20, -1)
    some = linear.rows(inputs, made.shape, picks).reshape(2, 3, -1)
    np.testing.assert_array_equal(some, np.take_along_axis(rows, picks[:, :, None], axis=1))


def test_without_a_bias_the_offset_is_zero(keras):
    layer = keras.layers.DepthwiseConv2D(2, depth_multiplier=3, use_bias=False)
    layer.build((None, 4, 4, 2))
    assert LinearLayer(layer).offset.tolist() == [0.0] * 6


def test_the_candidate_is_the_ridge_regression(keras):
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    rng = np.random.default_rng(0)
    moments = Moments(1, 3, 2)
    moments.add(rng.standard_normal((1, 50, 3)), rng.standard_normal((1, 50, 2)))
    (candidate,) = LinearLayer(layer).candidates(moments, 0.1, slice(None))
    np.testing.assert_array_equal(candidate.change, moments.solve(0.1).weights)
    ((variable, values),) = candidate.write(np.full((1, 3, 2), 7.0))
    assert variable is layer.kernel
    assert values.tolist() == [[7.0, 7.0]] * 3


def test_only_kinds_of_keras_that_multiply_a_kernel_are_linear(keras):
    class Own(keras.layers.Dense):
        pass

    Own.__name__ = "Dense"
    layers = keras.layers
    assert is_linear(layers.Dense(2))
    assert is_linear(layers.SeparableConv1D(2, 2))
    for other in (Own(2), layers.Embedding(2, 2), layers.LSTM(2), layers.ReLU(), layers.BatchNormalization()):
        assert not is_linear(other)
