import pytest

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def test_masks_are_those_that_tf_keras_finds_or_stand_in_the_graph(keras3, carried):
    layers, inputs = keras3.layers, keras3.Input((6, 4))
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(layers.Masking()(inputs * (inputs[..., :1] > 0)))
    model = carried(inputs, layers.GlobalAveragePooling1D()(layers.GRU(3, return_sequences=True)(x)))
    calls = [layer.inbound_nodes[0].call_kwargs for layer in model.layers if type(layer).__name__ in ("GRU", "Masking")]
    assert not any("mask" in settings for settings in calls)
    tokens = keras3.Input((6,), dtype="int32")
    x = layers.Embedding(5, 4, mask_zero=True)(tokens)
    own = layers.GRU(3, name="own")(x, mask=keras3.ops.not_equal(tokens, 1))
    both = carried(tokens, layers.Concatenate()([own, layers.GRU(3, name="found")(x)]), integers=True)
    assert "mask" in both.get_layer("own").inbound_nodes[0].call_kwargs
    assert "mask" not in both.get_layer("found").inbound_nodes[0].call_kwargs
