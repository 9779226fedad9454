"""Check which calls of layers count: those as in training, and those for losses."""

import numpy as np

from stages.keras.stripping.layers import strip_model
from stages.keras.tensorflow import import_keras, import_tensorflow


def test_what_is_called_as_in_training_stays():
    keras = import_keras()
    layers = keras.layers
    nested = keras.Sequential([keras.Input((4,)), layers.Dropout(0.5, name="inner")], name="nested")
    entry = keras.Input((4,))
    x = layers.Dropout(0.5, name="monte_carlo")(entry, training=True)
    x = layers.Dropout(0.5, name="plain")(nested(x, training=True), training=False)
    stripped = strip_model(keras.Model(entry, x))
    assert stripped.removed == ("plain: Dropout",)
    x = np.ones((64, 4), np.float32)
    assert np.asarray(stripped.model(x, training=False)).std() > 0.5


def test_a_layer_that_outputs_and_a_loss_share_keeps_the_loss():
    keras, tf = import_keras(), import_tensorflow()
    entry = keras.Input((4,))
    shared = keras.layers.Dense(4, name="shared")
    model = keras.Model(entry, shared(entry))
    model.add_loss(tf.reduce_mean(shared(entry * 2)))
    assert strip_model(model).model is model
