import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def test_shared_layers_several_inputs_and_outputs_and_models_in_models(keras3, carried):
    layers = keras3.layers
    left, right = keras3.Input((5,), name="left"), keras3.Input((5,), name="right")
    shared = layers.Dense(4, name="shared")
    inside = keras3.Input((4,))
    inner = keras3.Model(inside, [layers.Dense(3)(inside), layers.Dense(4)(inside * 2.0)], name="inner")
    one, two = inner(shared(left))
    three, _ = inner(shared(right))
    model = carried([left, right], [layers.Concatenate()([one, three]), two])
    assert len(model.get_layer("shared").inbound_nodes) == 2
    assert [tensor.shape[1] for tensor in model.outputs] == [6, 4]


def test_dropout_drops_in_training_whatever_the_file_notes(keras3, carried):
    inputs = keras3.Input((50,))
    model = carried(inputs, keras3.layers.Dropout(0.5)(inputs, training=False))
    x = np.ones((2, 50), "float32")
    assert (np.asarray(model(x, training=True)) == 0).any()
    assert (np.asarray(model(x, training=False)) == 1).all()


def test_what_was_frozen_stays_frozen(keras3, carried):
    layers, inputs = keras3.layers, keras3.Input((5,))
    inner = keras3.Sequential([keras3.Input((5,)), layers.Dense(3, name="cold")], name="base")
    inner.trainable = False
    frozen = layers.Dense(4, name="frozen")
    frozen.trainable = False
    model = carried(inputs, layers.Dense(2, name="free")(frozen(inner(inputs, training=False))))
    assert [w.name.split("/")[0] for w in model.trainable_weights] == ["free", "free"]
