import numpy as np
import pytest

from pipeline.errors import ModelError
from stages.keras.channels.groups import channel_groups
from stages.keras.closing import before_squashing
from stages.keras.normal_form import encode_model
from stages.keras.regression.linear_layers import LinearLayer
from stages.keras.tensorflow import import_tensorflow
from stages.prune.ranking import readers
from stages.prune.ranking.criterion import Question
from stages.prune.ranking.readers import inputs_seen_by, pieces_of, readers_of, seen_by
from stages.samples.batches import unheard
from stages.samples.model_samples import samples_of

COUNT = 11  # samples: not a multiple of the batch


def asked(model, data, seed=0):
    return Question(model, channel_groups(model).prunable, seed, samples_of(model, data), unheard)


def look(model, data, seed=0):
    question = asked(model, data, seed)
    rows = readers_of(model, question.groups)
    return rows, seen_by(question, rows, unheard)


def images(model, count=COUNT):
    rng = np.random.default_rng(0)
    found = [rng.standard_normal((count, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
    return found[0] if len(found) == 1 else found


@pytest.fixture
def all_positions(monkeypatch):
    monkeypatch.setattr(readers, "POSITIONS", 10_000)


def slopes_of_logits(model, data, name):
    """Return (samples, logits, *outputs of the layer before its activation) by a plain tape.

    The layers behind the reader are called again one after another, with its activation as a layer of its own.
    """
    tf, layer = import_tensorflow(), model.get_layer(name)
    activation, layer.activation = layer.activation, tf.identity
    with before_squashing(model) as logits:
        before = type(model)(model.inputs, layer.output)(data)
        behind = logits.layers[[each.name for each in logits.layers].index(name) + 1 :]
        with tf.GradientTape() as tape:
            tape.watch(before)
            after = activation(before)
            for each in behind:
                after = each(after, training=False) if "batch" in each.name else each(after)
        found = tape.batch_jacobian(after, before).numpy()
    layer.activation = activation
    return found


@pytest.mark.parametrize("activation", ["linear", "relu", "swish", "softmax"])
@pytest.mark.parametrize("closing", ["softmax", "sigmoid", "linear"])
def test_energy_is_the_mean_squared_slope_of_the_outputs_before_a_closing_activation(
    keras, randomize, all_positions, activation, closing
):
    image = keras.Input((5, 5, 2))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="body")(image)
    x = keras.layers.Conv2D(3, 2, activation=activation, name="reader")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(x))
    model = randomize(keras.Model(image, keras.layers.Dense(4, activation=closing, name="head")(x)))
    data = images(model)
    expected = np.square(slopes_of_logits(model, data, "reader")).sum(axis=(0, 1, 2, 3)) / COUNT
    found = np.mean([look(model, data, seed)[1]["reader"].energy for seed in range(40)], axis=0)
    np.testing.assert_allclose(found, expected, rtol=0.25)  # random signs: 11 samples, 40 times


def rows_by_patches(model, name, data):
    """Return (rows, taps·channels): what an ordinary convolution sees, by TensorFlow's own patches."""
    tf, layer = import_tensorflow(), model.get_layer(name)
    given = type(model)(model.inputs, layer.input)(data)
    patches = tf.image.extract_patches(
        given, [1, *layer.kernel_size, 1], [1, *layer.strides, 1], [1, *layer.dilation_rate, 1], layer.padding.upper()
    )
    return patches.numpy().reshape(-1, patches.shape[-1]).astype(np.float64)


@pytest.mark.parametrize("how", [{}, {"strides": 2, "padding": "same"}, {"dilation_rate": 2, "padding": "same"}])
def test_moments_are_the_covariance_of_what_a_convolution_sees(keras, randomize, all_positions, how):
    image = keras.Input((7, 6, 2))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="body")(image)
    x = keras.layers.Conv2D(3, 3, name="reader", **how)(x)
    model = randomize(keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(x))))
    data = images(model)
    rows, seen = look(model, data)
    expected = np.cov(rows_by_patches(model, "reader", data).T, bias=True)
    (piece,) = seen["reader"].pieces
    np.testing.assert_allclose(piece.moments.covariances()[0][0], expected, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_array_equal(rows["reader"], np.tile(np.unique(rows["reader"]), 9))


def every_kind(keras):
    """Build readers of all kinds: grouped, separable with a multiplier, transposed, of a concatenation, dense."""
    layers = keras.layers
    image, vector = keras.Input((8, 8, 2)), keras.Input((3,))
    a = layers.Conv2D(4, 3, padding="same", activation="relu", name="a")(image)
    b = layers.Conv2D(6, 3, padding="same", activation="relu", name="b")(image)
    x = layers.Concatenate()([a, b])
    x = layers.BatchNormalization()(layers.Conv2D(8, 1, name="of_both")(x))
    x = layers.Conv2D(8, 3, groups=2, padding="same", activation="relu", name="grouped")(layers.ReLU()(x))
    x = layers.SeparableConv2D(5, 3, depth_multiplier=2, activation="swish", name="separable")(x)
    x = layers.Conv2DTranspose(4, 3, strides=2, name="transposed")(x)
    x = layers.Conv2D(3, 2, strides=3, name="narrow")(layers.DepthwiseConv2D(3)(x))
    x = layers.Dense(6, activation="tanh", name="flat")(layers.Flatten()(x))
    y = layers.Dense(6, activation="relu", name="other")(vector)
    shared = layers.Dense(4, activation="tanh", name="shared")
    kind = layers.Dense(3, activation="softmax", name="kind")(layers.Add()([shared(x), shared(y)]))
    return keras.Model([image, vector], [kind, layers.Dense(1, name="level")(x)])


@pytest.fixture
def kinds(keras, randomize):
    return randomize(every_kind(keras))


def test_every_row_is_that_of_its_channel(kinds, all_positions):
    """A channel that is zero everywhere has no variance in any row that is said to be its own, and in no other."""
    data = images(kinds)
    rows, _ = look(kinds, data)
    assert set(rows) == {
        *("of_both", "grouped", "separable", "transposed", "narrow", "flat", "shared", "kind", "level"),
    }
    graph = channel_groups(kinds)
    for group in graph.prunable:
        channel = group.channels[1]
        weights = kinds.get_weights()
        for slot in (*group.producers, *group.pass_through):
            variable = slot.variable(kinds.get_layer(slot.layer))
            value = variable.numpy()
            value[(slice(None),) * slot.axis + (slot.channels == channel,)] = 0
            variable.assign(value)
        _, seen = look(kinds, data)
        for name in {slot.layer for slot in group.consumers} & set(rows):
            for piece in seen[name].pieces:
                dead = np.isclose(np.einsum("guu->u", piece.moments.covariances()[0]), 0)
                np.testing.assert_array_equal(dead, rows[name][piece.inputs] == channel, err_msg=name)
        kinds.set_weights(weights)


def test_the_shape_of_a_reader_is_that_of_its_matrices(kinds):
    for name in readers_of(kinds, channel_groups(kinds).prunable):
        linear = LinearLayer(kinds.get_layer(name))
        assert linear.shape == linear.matrices.shape, name


def test_a_shared_layer_sees_the_inputs_of_all_its_calls(kinds):
    data = images(kinds)
    _, seen = look(kinds, data)
    layer = kinds.get_layer("shared")
    given = [type(kinds)(kinds.inputs, layer.get_input_at(call))(data).numpy() for call in (0, 1)]
    expected = np.cov(np.concatenate(given).T.astype(np.float64), bias=True)
    (piece,) = seen["shared"].pieces
    np.testing.assert_allclose(piece.moments.covariances()[0][0], expected, atol=1e-6 * np.abs(expected).max())


def test_the_model_is_bit_equal_afterwards_also_after_an_error(kinds):
    data = images(kinds)
    activations = {layer.name: getattr(layer, "activation", None) for layer in kinds.layers}
    before, outputs = encode_model(kinds), [output.numpy() for output in kinds(data)]
    look(kinds, data)
    broken = [np.full_like(each, np.nan) for each in data]
    with pytest.raises(ModelError, match="not finite"):
        look(kinds, broken)
    assert encode_model(kinds) == before
    for layer in kinds.layers:
        assert getattr(layer, "activation", None) is activations[layer.name]
    for output, again in zip(outputs, kinds(data), strict=True):
        np.testing.assert_array_equal(output, again)


def test_looking_again_shows_the_same(kinds):
    first, again = (look(kinds, images(kinds))[1] for _ in range(2))
    for name, seen in first.items():
        np.testing.assert_array_equal(seen.energy, again[name].energy)
        for piece, other in zip(seen.pieces, again[name].pieces, strict=True):
            np.testing.assert_array_equal(piece.moments.gram, other.moments.gram)


def test_pieces_hold_whole_channels_and_every_row_once(monkeypatch):
    monkeypatch.setattr(readers, "PIECE", 5)
    rows = np.tile([7, 3, 9, 4], 3)
    pieces = pieces_of(rows)
    assert len(pieces) == 3
    assert sorted(np.concatenate(pieces).tolist()) == list(range(12))
    for piece in pieces:
        assert all(np.isin(np.flatnonzero(rows == channel), piece).all() for channel in rows[piece])


def test_an_activation_that_is_a_layer_keeps_its_weights_in_place(keras, randomize):
    vector = keras.Input((3,))
    x = keras.layers.Dense(5, activation="relu", name="body")(vector)
    x = keras.layers.Dense(4, activation=keras.layers.PReLU(), name="reader")(x)
    model = randomize(keras.Model(vector, keras.layers.Dense(2, name="head")(x)))
    names = [weight.name for weight in model.weights]
    _, seen = look(model, images(model))
    assert seen["reader"].energy.min() > 0
    assert [weight.name for weight in model.weights] == names


def test_without_gradients_the_same_inputs_are_seen(branches, all_positions):
    question = asked(branches, images(branches, 40))
    rows = readers_of(branches, question.groups)
    heard = []
    whole, plain = seen_by(question, rows, unheard), inputs_seen_by(question, rows, lambda *of: heard.append(of))
    assert heard == [(32, 40), (40, 40)]
    assert plain.keys() == whole.keys()
    for name, pieces in plain.items():
        for ours, theirs in zip(pieces, whole[name].pieces, strict=True):
            np.testing.assert_array_equal(ours.inputs, theirs.inputs)
            np.testing.assert_allclose(ours.moments.covariances()[0], theirs.moments.covariances()[0], atol=1e-5)
            np.testing.assert_allclose(ours.moments.row_means, theirs.moments.row_means, atol=1e-6)


def test_inputs_that_are_not_finite_are_told_without_gradients_as_well(branches):
    data = images(branches)
    data[3] = np.inf
    question = asked(branches, data)
    with pytest.raises(ModelError, match="not finite"):
        inputs_seen_by(question, readers_of(branches, question.groups), unheard)
