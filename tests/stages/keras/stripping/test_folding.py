import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.keras.normal_form import relative_difference
from stages.keras.stripping.layers import strip_model
from stages.keras.tensorflow import import_keras


def randomized(model, seed=0):
    """Return the model with weights as training leaves them: statistics that differ from channel to channel."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        value = rng.normal(0, 0.5, weight.shape)
        positive = "variance" in weight.name or "gamma" in weight.name
        weight.assign(np.abs(value) + 0.1 if positive else value)
    return model


def difference(model, other, seed=1):
    rng = np.random.default_rng(seed)
    x = [rng.normal(size=(3, *tensor.shape[1:])).astype("float32") for tensor in model.inputs]
    return relative_difference(model(x, training=False), other(x, training=False))


def layer(kind, channels=4, **settings):
    layers = import_keras().layers
    if kind == "Dense":
        return layers.Dense(channels, name="conv", **settings)
    if kind.startswith("Depthwise"):
        return getattr(layers, kind)(3, depth_multiplier=2, name="conv", **settings)
    return getattr(layers, kind)(channels, 3, padding="same", name="conv", **settings)


def rank_of(kind):
    return next((n for n in (1, 2, 3) if f"{n}D" in kind), 2)


KINDS = [
    *("Conv1D", "Conv2D", "Conv3D", "SeparableConv1D", "SeparableConv2D", "DepthwiseConv1D", "DepthwiseConv2D"),
    *("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose", "Dense"),
]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_layer_takes_it_over(kind, bias):
    keras = import_keras()
    entry = keras.Input((*(6,) * rank_of(kind), 4))
    x = keras.layers.BatchNormalization(name="bn")(layer(kind, use_bias=bias)(entry))
    model = randomized(keras.Model(entry, keras.layers.ReLU()(x)))
    stripped = strip_model(model, fold_batch_norm=True)
    assert stripped.folded == ("bn into conv",)
    assert stripped.kept == stripped.removed == ()
    assert difference(model, stripped.model) < 1e-6
    assert type(stripped.model.get_layer("bn")).__name__ == "Activation"
    assert stripped.model.get_layer("conv").use_bias
    assert [old.name for old in model.layers] == [new.name for new in stripped.model.layers]
    assert strip_model(model).model is model  # only on request


@pytest.mark.parametrize("settings", [{"groups": 2}, {"strides": 2}, {"dilation_rate": 2}], ids=str)
def test_groups_strides_and_dilation_change_nothing(settings):
    keras = import_keras()
    entry = keras.Input((9, 9, 4))
    norm = keras.layers.BatchNormalization(scale=False, center=False, epsilon=0.1)
    model = randomized(keras.Model(entry, norm(layer("Conv2D", **settings)(entry))))
    stripped = strip_model(model, fold_batch_norm=True)
    assert len(stripped.folded) == 1
    assert difference(model, stripped.model) < 1e-6


def test_a_batch_normalization_in_a_nested_model_that_is_called_twice_is_folded():
    keras = import_keras()
    layers = keras.layers
    inner = keras.Sequential([keras.Input((6, 6, 4)), layer("Conv2D"), layers.BatchNormalization(name="bn")])
    entry = keras.Input((6, 6, 4))
    model = randomized(keras.Model(entry, layers.Add()([inner(entry), inner(layers.ReLU()(entry))])))
    stripped = strip_model(model, fold_batch_norm=True)
    assert stripped.folded == ("bn into conv",)
    assert difference(model, stripped.model) < 1e-6


def refused(build, shape=(6, 6, 4)):
    """Return the reason why the only batch normalization of the model that `build` makes of an input stays."""
    keras = import_keras()
    entry = keras.Input(shape)
    model = randomized(keras.Model(entry, build(entry, keras.layers)))
    stripped = strip_model(model, fold_batch_norm=True)
    assert stripped.folded == ()
    assert difference(model, stripped.model) == 0
    (reason,) = stripped.kept
    return reason


def norm(**settings):
    return import_keras().layers.BatchNormalization(name="bn", **settings)


REFUSALS = {
    "bn: conv before it has an activation": lambda x, layers: norm()(layer("Conv2D", activation="relu")(x)),
    "bn: max (MaxPooling2D) before it has no kernel to take it over": lambda x, layers: norm()(
        layers.MaxPooling2D(name="max")(layer("Conv2D")(x))
    ),
    "bn: it normalizes axis [1], not the channels": lambda x, layers: norm(axis=1)(layer("Conv2D")(x)),
    "bn: it is called with training=True, and normalizes by the batch": lambda x, layers: norm()(
        layer("Conv2D")(x), training=True
    ),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_what_can_not_be_folded_stays_with_the_reason(reason):
    assert refused(REFUSALS[reason]) == reason


def test_outputs_that_are_read_elsewhere_too_keep_it():
    def build(x, layers):
        y = layer("Conv2D")(x)
        return layers.Add()([y, norm()(y)])

    def also_an_output(x, layers):
        y = layer("Conv2D")(x)
        return [y, norm()(y)]

    reason = "bn: the outputs of conv are used elsewhere too"
    assert refused(build) == refused(also_an_output) == reason


def test_layers_that_are_called_twice_keep_it():
    def shared_conv(x, layers):
        conv = layer("Conv2D")
        return layers.Add()([norm()(conv(x)), conv(layers.ReLU()(x))])

    def shared_norm(x, layers):
        shared = norm()
        return layers.Add()([shared(layer("Conv2D")(x)), shared(layers.Conv2D(4, 3, padding="same")(x))])

    assert refused(shared_conv) == "bn: conv is called more than once"
    assert refused(shared_norm) == "bn: bn is called more than once"


def test_statistics_that_are_no_numbers_and_half_precision_keep_it():
    keras = import_keras()
    entry = keras.Input((4,))
    model = keras.Model(entry, norm()(layer("Dense")(entry)))
    model.get_layer("bn").moving_variance.assign([1, 1, 1, np.nan])
    assert strip_model(model, fold_batch_norm=True).kept == ("bn: its statistics give no finite factor",)
    half = keras.Model(entry, norm(dtype="mixed_float16")(layer("Dense", dtype="mixed_float16")(entry)))
    assert strip_model(half, fold_batch_norm=True).kept == ("bn: bn computes in float16",)


BLOCKS = st.tuples(
    st.sampled_from(["Conv2D", "SeparableConv2D", "DepthwiseConv2D", "Conv2DTranspose"]),
    st.sampled_from(["linear", "relu"]),
    st.booleans(),  # bias
    st.booleans(),  # batch normalization after it
    st.booleans(),  # a shortcut around it
)


@settings(max_examples=12, deadline=None)
@given(blocks=st.lists(BLOCKS, min_size=1, max_size=4), seed=st.integers(0, 99))
def test_any_network_gives_the_same_outputs(blocks, seed):
    keras = import_keras()
    layers = keras.layers
    entry = x = keras.Input((6, 6, 3))
    possible = 0
    for index, (kind, activation, bias, normalized, shortcut) in enumerate(blocks):
        size = {"kernel_size": 3} if kind == "DepthwiseConv2D" else {"filters": x.shape[-1], "kernel_size": 3}
        conv = getattr(layers, kind)(**size, padding="same", use_bias=bias, activation=activation, name=f"conv{index}")
        y = conv(x)
        if normalized:
            y = layers.BatchNormalization()(y)
            possible += activation == "linear"
        x = layers.Add()([x, y]) if shortcut else y
    model = randomized(keras.Model(entry, layers.Dense(5)(layers.Flatten()(x))), seed)
    stripped = strip_model(model, fold_batch_norm=True)
    assert len(stripped.folded) == possible
    assert difference(model, stripped.model, seed) < 1e-5
