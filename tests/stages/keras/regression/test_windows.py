import numpy as np
import pytest

from stages.keras.regression.windows import Axis, axes_of, channels_last, windows


def test_the_input_under_each_tap_of_a_convolution():
    axis = Axis(taps=3, stride=2, dilation=1, before=1, size=5)
    index, inside = axis.sources(np.array([0, 1, 2]))
    assert index.tolist() == [[0, 0, 1], [1, 2, 3], [3, 4, 0]]
    assert inside.tolist() == [[False, True, True], [True, True, True], [True, True, False]]


def test_the_input_under_each_tap_of_a_transposed_convolution():
    """Its output t reads input i through tap t - i · stride: with stride 3 and 2 taps every third output reads none."""
    axis = Axis(taps=2, stride=3, dilation=1, before=0, size=2, transposed=True)
    index, inside = axis.sources(np.arange(6))
    assert inside.tolist() == [[1, 0], [0, 1], [0, 0], [1, 0], [0, 1], [0, 0]]
    assert index[inside].tolist() == [0, 0, 1, 1]


def test_windows_of_picked_positions_are_padded_with_zeros():
    inputs = np.arange(1, 13, dtype=np.float32).reshape(1, 3, 4, 1)
    axes = (Axis(3, 1, 1, 1, 3), Axis(2, 1, 1, 0, 4))
    seen = windows(inputs, axes, (3, 4), np.array([[0, 6, 11]]))
    assert seen.shape == (1, 3, 6, 1)
    assert seen[0, :, :, 0].tolist() == [[0, 0, 1, 2, 5, 6], [3, 4, 7, 8, 11, 12], [8, 0, 12, 0, 0, 0]]


@pytest.mark.parametrize(
    ("settings", "size", "before"),
    [
        ({"padding": "valid"}, 7, 0),
        ({"padding": "same"}, 7, 1),
        ({"padding": "same", "strides": 2}, 6, 0),
        ({"padding": "causal", "dilation_rate": 2}, 7, 4),
    ],
)
def test_padding_before_the_first_sample(keras, settings, size, before):
    layer = keras.layers.Conv1D(2, 3, **settings)
    outputs = layer(np.zeros((1, size, 1), np.float32)).shape[1:-1]
    (axis,) = axes_of(layer, (size,), outputs)
    assert axis == Axis(3, layer.strides[0], layer.dilation_rate[0], before, size)


def test_keras_ignores_the_dilation_of_a_transposed_convolution_of_clips(keras):
    layer = keras.layers.Conv3DTranspose(1, 2, dilation_rate=2)
    assert {axis.dilation for axis in axes_of(layer, (3, 3, 3), (4, 4, 4))} == {1}


def test_channels_come_last(keras):
    array = np.zeros((2, 3, 4, 5), np.float32)
    assert channels_last(keras.layers.Conv2D(1, 1, data_format="channels_first"), array).shape == (2, 4, 5, 3)
    assert channels_last(keras.layers.Conv2D(1, 1), array) is array
    assert channels_last(keras.layers.Dense(1), array) is array
