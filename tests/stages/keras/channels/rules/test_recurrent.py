"""Check that recurrent layers lose units, gate by gate, and the channels they read."""

import pytest

KINDS = ["SimpleRNN", "GRU", "LSTM"]


def signal_net(keras, *middle):
    signal = x = keras.Input((5, 3), name="signal")
    x = keras.layers.Conv1D(6, 1, name="before")(x)
    for layer in middle:
        x = layer(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(signal, keras.layers.Dense(2, name="head")(x))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "settings", [{}, {"return_sequences": True, "go_backwards": True}, {"use_bias": False, "activation": "relu"}]
)
def test_units_and_inputs(keras, cut, kind, settings):
    pruned = cut(signal_net(keras, getattr(keras.layers, kind)(7, name="cells", **settings))).pruned
    assert pruned.get_layer("cells").units == pruned.get_layer("cells").output_shape[-1] < 7
    assert pruned.get_layer("cells").cell.kernel.shape[0] == pruned.get_layer("before").filters < 6


def test_a_gru_without_a_second_bias(keras, cut):
    assert (
        cut(signal_net(keras, keras.layers.GRU(7, reset_after=False, name="cells"))).pruned.get_layer("cells").units < 7
    )


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_states_from_one_layer_to_the_next(keras, cut, kind):
    signal = keras.Input((5, 3))
    make = getattr(keras.layers, kind)
    x, *states = make(7, return_state=True, return_sequences=True, name="encoder")(signal)
    x = make(7, name="decoder")(keras.layers.Conv1D(4, 1, name="between")(x), initial_state=states)
    result = cut(keras.Model(signal, keras.layers.Dense(2)(x)))
    pruned = result.pruned
    assert pruned.get_layer("encoder").units == pruned.get_layer("decoder").units < 7
    assert {group.makers for group in result.graph.prunable} == {("encoder", "decoder"), ("between",)}


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave"])
@pytest.mark.parametrize("kind", KINDS)
def test_two_directions(keras, cut, kind, mode):
    cells = getattr(keras.layers, kind)(7, return_sequences=True)
    pruned = cut(signal_net(keras, keras.layers.Bidirectional(cells, merge_mode=mode, name="both"))).pruned
    both = pruned.get_layer("both")
    assert both.forward_layer.units == both.backward_layer.units < 7
    assert both.output_shape[-1] == both.forward_layer.units * (2 if mode == "concat" else 1)


def test_two_directions_apart(keras, cut):
    signal = keras.Input((5, 3))
    pair = keras.layers.Bidirectional(keras.layers.GRU(7), merge_mode=None, name="both")(signal)
    joined = keras.layers.Multiply()(pair)
    assert cut(keras.Model(signal, keras.layers.Dense(2)(joined))).pruned.get_layer("both").forward_layer.units < 7


def test_directions_configured_apart_keep_their_units(keras, cut, groups):
    backward = keras.layers.LSTM(4, go_backwards=True)
    layer = keras.layers.Bidirectional(keras.layers.LSTM(7), backward_layer=backward, name="both")
    model = signal_net(keras, layer)
    assert groups(model)["both"] == ["both: directions that were configured apart"]
    assert cut(model).pruned.get_layer("before").filters < 6


def test_masked_steps(keras, cut):
    words = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(4, 6, mask_zero=True, name="table")(words)
    x = keras.layers.Bidirectional(keras.layers.LSTM(5), name="both")(x)
    pruned = cut(keras.Model(words, keras.layers.Dense(2)(x))).pruned
    assert pruned.get_layer("table").output_dim < 6


@pytest.mark.parametrize("settings", [{"stateful": True}, {"time_major": True}])
def test_states_between_batches_freeze(keras, groups, settings):
    signal = keras.Input((5, 3), batch_size=2)
    x = keras.layers.LSTM(4, name="cells", **settings)(keras.layers.Conv1D(6, 1, name="before")(signal))
    model = keras.Model(signal, keras.layers.Dense(2)(keras.layers.Dense(3, name="after")(x)))
    reason = ["cells: keeps states between batches, has time first, or takes constants"]
    assert groups(model)["before"] == reason
    assert groups(model)["after"] == 3


def test_a_cell_of_ones_own_freezes(keras, cut, groups):
    cells = keras.layers.RNN(keras.layers.LSTMCell(4), name="cells")
    model = signal_net(keras, cells)
    assert groups(model)["before"] == ["cells: unknown layer kind RNN"]
    cut(model)
