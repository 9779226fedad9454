import numpy as np

from stages.keras.equalizing.clipping import clips_at, open_activations
from stages.keras.equalizing.draft import Draft
from stages.keras.equalizing.statistics import statistics_of
from stages.keras.regression.running import Network


def test_what_clips(keras):
    import tensorflow as tf

    layers = keras.layers
    assert clips_at(layers.ReLU(6.0)) == 6
    assert clips_at(layers.Activation(tf.nn.relu6)) == 6
    assert clips_at(layers.Conv2D(1, 1, activation=tf.nn.relu6)) == 6
    inner = layers.LSTM(2, activation=tf.nn.relu6)  # what it gives is not what that makes
    for layer in (
        inner,
        layers.ReLU(),
        layers.ReLU(6.0, threshold=1.0),
        layers.Activation("relu"),
        layers.MaxPooling2D(),
    ):
        assert clips_at(layer) is None


def test_only_what_no_sample_reaches_is_opened(keras):
    import tensorflow as tf

    image = keras.Input((2,))
    low, high = keras.layers.ReLU(4.0, name="low"), keras.layers.Activation(tf.nn.relu6, name="high")
    dense = keras.layers.Dense(2, activation=tf.nn.relu6, name="dense", kernel_initializer="zeros")
    model = keras.Model(image, [low(image), high(image), dense(image)])
    network, draft = Network.of(model), Draft(model)
    x = np.array([[3.9, 1], [0, -1]], np.float32)
    notes = open_activations(network, draft, statistics_of(network, [[x]]), frozenset())
    assert sorted(notes) == [
        f"{name}: no sample comes near 6, so it clips nothing any more" for name in ("dense", "high")
    ]
    opened = draft.built()
    assert [clips_at(opened.get_layer(name)) for name in ("low", "high", "dense")] == [4, None, None]
    np.testing.assert_array_equal(opened(10 * x)[1], np.maximum(10 * x, 0))
    kept = Draft(model)
    assert open_activations(network, kept, statistics_of(network, [[x]]), frozenset({"high", "dense"})) == []
