import numpy as np
import pytest

from stages.keras.equalizing.draft import Draft, Kernels, Replacement, has_channels, identity

SHAPE = (7, 6, 4)


def kinds(layers):
    same = {"padding": "same", "use_bias": False, "name": "x"}
    return [
        layers.Conv2D(6, 3, **same),
        layers.Conv2D(6, 3, groups=2, **same),
        layers.DepthwiseConv2D(3, depth_multiplier=2, **same),
        layers.SeparableConv2D(6, 3, depth_multiplier=2, **same),
        layers.Conv2DTranspose(6, 3, **same),
        layers.Dense(6, use_bias=False, name="x"),
    ]


@pytest.mark.parametrize("which", range(6))
def test_factors_and_offsets_do_what_they_say(keras, randomize, which):
    layer = kinds(keras.layers)[which]
    image = keras.Input(SHAPE)
    model = randomize(keras.Model(image, layer(image)))
    rng = np.random.default_rng(0)
    outputs = model.output_shape[-1]
    factor, shift = rng.uniform(0.5, 2, outputs), rng.normal(size=outputs)
    read, offset = rng.uniform(0.5, 2, 4), rng.normal(size=4)
    draft = Draft(model)
    kernels = draft.of("x")
    kernels.scale_outputs(factor)
    kernels.shift_outputs(shift)
    kernels.shift_inputs(offset)
    kernels.scale_inputs(read)
    x = rng.standard_normal((3, *SHAPE)).astype(np.float32)
    wanted = model(x * read.astype(np.float32) + offset.astype(np.float32)).numpy() * factor + shift
    found = draft.built()(x).numpy()
    inner = (slice(None), slice(1, -1), slice(1, -1))  # at the border, padding takes no offset
    np.testing.assert_allclose(found[inner], wanted[inner], rtol=1e-4, atol=1e-4)
    assert not model.get_layer("x").use_bias


def test_how_a_kernel_reads_its_inputs(keras, randomize):
    layer = keras.layers.Conv2D(6, 3, groups=2, name="x")
    layer.build((None, *SHAPE))
    kernel = layer.kernel.numpy().astype(np.float64)
    kernels = Kernels(layer)
    assert kernels.taps == 9
    np.testing.assert_allclose(kernels.gains[3], np.square(kernel[:, :, 1, 3:]).sum())
    np.testing.assert_allclose(kernels.peaks[3], [0, 0, 0, *np.abs(kernel[:, :, 1, 3:]).max(axis=(0, 1))])
    assert not kernels.by_channel
    depthwise = keras.layers.DepthwiseConv2D(3, depth_multiplier=2)
    depthwise.build((None, *SHAPE))
    assert Kernels(depthwise).by_channel
    np.testing.assert_allclose(
        Kernels(depthwise).gains, np.square(depthwise.depthwise_kernel.numpy().astype(np.float64)).sum(axis=(0, 1, 3))
    )


def test_layers_that_take_no_factors(keras):
    layers = keras.layers
    for layer in (layers.Conv2D(2, 1, data_format="channels_first"), layers.LSTM(2), layers.Conv2D(2, 1, dtype="half")):
        assert not has_channels(layer)
    assert has_channels(layers.Conv2D(2, 1))


def test_only_a_model_of_one_s_own_takes_changes_itself(keras, randomize):
    image = keras.Input(SHAPE)
    made = keras.layers.ReLU(6.0, name="b")(keras.layers.Conv2D(4, 1, activation="relu6", use_bias=False)(image))
    model = randomize(keras.Model(image, keras.layers.Dense(2, name="c")(made)))
    x = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(np.float32)
    wanted, name = 2 * model(x).numpy(), model.layers[1].name

    def draft(own):
        drafted = Draft(model, own=own)
        drafted.settings = {"b": {"max_value": None}, name: {"activation": "relu"}}
        drafted.of("c").scale_outputs(np.full(2, 2.0))
        return drafted

    other = draft(own=False).built()
    assert other is not model
    assert model.get_layer("b").max_value == 6
    assert draft(own=True).built() is model
    assert model.get_config() == other.get_config()
    for one in (model, other):
        np.testing.assert_allclose(one(x), wanted, rtol=1e-5, atol=1e-5)
    needs_a_bias = Draft(model, own=True)
    needs_a_bias.of(name).shift_outputs(np.ones(4))
    assert needs_a_bias.built() is not model


def test_layers_are_replaced_under_their_names_and_others_keep_their_weights(keras, randomize):
    image = keras.Input(SHAPE)
    made = keras.layers.ReLU(name="b")(keras.layers.Conv2D(4, 1, name="a")(image))
    model = randomize(keras.Model(image, keras.layers.BatchNormalization(name="c")(made)))
    draft = Draft(model)
    assert draft.built() is model
    draft.replaced["b"] = identity(model.get_layer("b"))
    weights = np.arange(4.0).reshape(1, 1, 4, 1), np.ones(4)
    draft.replaced["c"] = Replacement(keras.layers.DepthwiseConv2D(1, name="c"), weights)
    changed = draft.built()
    x = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(np.float32)
    wanted = model.get_layer("a")(x).numpy() * np.arange(4) + 1
    np.testing.assert_allclose(changed(x).numpy(), wanted, rtol=1e-5, atol=1e-5)
    assert [layer.name for layer in changed.layers] == [layer.name for layer in model.layers]
