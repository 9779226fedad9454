"""Prune random small networks of every kind of layer that has a rule: whatever is removed, surgery is exact.

And allocation's cost of the rest is what the pruned network costs.

A network starts as an image, a signal, a clip or words, and grows by steps that fit the rank of what is there. Each
step gets a width and something older of the same rank to join; the frozen kinds are among them.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.keras.channels.groups import channel_groups
from stages.keras.macs import count_macs
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.prune.choosing.cost import cost_of

STEPS = {2: {}, 3: {}, 4: {}, 5: {}}


def step(*ranks):
    def register(function):
        for rank in ranks:
            STEPS[rank][function.__name__] = function
        return function

    return register


def layers():
    return import_keras().layers


def by_rank(pattern, x):
    """Return the layer class for the rank of `x`: Conv*D is Conv1D for a signal."""
    return getattr(layers(), pattern.replace("*", str(len(x.shape) - 2)))


def like(older, x):
    """Return `older`, by a 1×1 convolution if need be, with as many channels as `x`; `x` itself if its sizes differ."""
    if older.shape[1:-1] != x.shape[1:-1]:
        return x
    return older if older.shape[-1] == x.shape[-1] else layers().Dense(x.shape[-1])(older)


@step(3, 4, 5)
def convolution(x, older, width):
    return by_rank("Conv*D", x)(width, 2, padding="same", activation=["relu", "gelu", "tanh"][width % 3])(x)


@step(3, 4)
def grouped(x, older, width):
    return by_rank("Conv*D", x)(2 * width, 2, padding="same", groups=2 if x.shape[-1] % 2 == 0 else 1)(x)


@step(3, 4)
def depthwise(x, older, width):
    return by_rank("DepthwiseConv*D", x)(2, padding="same", depth_multiplier=1 + width % 2)(x)


@step(3, 4)
def separable(x, older, width):
    return by_rank("SeparableConv*D", x)(width, 2, padding="same", depth_multiplier=1 + width % 2)(x)


@step(3, 4, 5)
def transposed(x, older, width):
    return by_rank("Conv*DTranspose", x)(width, 2, padding="same")(x)


@step(2, 3, 4, 5)
def dense(x, older, width):
    return layers().Dense(width, activation=["relu", "sigmoid", "softmax"][width % 3])(x)


@step(2, 3, 4, 5)
def scaled(x, older, width):
    kinds = layers()
    values = (1 + np.arange(x.shape[-1])).tolist()
    kind = [
        kinds.BatchNormalization(),
        kinds.PReLU(),
        kinds.Rescaling(values, 0.5),
        kinds.Normalization(mean=values, variance=2.0),
        kinds.LayerNormalization(),
    ]
    return kind[width % 5](x)


@step(2, 3, 4, 5)
def activation(x, older, width):
    kinds = layers()
    kind = [kinds.ReLU(6.0), kinds.LeakyReLU(), kinds.ELU(), kinds.Softmax(1), kinds.Activation("swish")]
    return kind[width % 5](x)


@step(2, 3, 4, 5)
def noise(x, older, width):
    kinds = layers()
    return [kinds.Dropout(0.5), kinds.GaussianNoise(0.1), kinds.AlphaDropout(0.1)][width % 3](x)


@step(2, 3, 4, 5)
def merge(x, older, width):
    kinds = layers()
    kind = [kinds.Add, kinds.Subtract, kinds.Multiply, kinds.Average, kinds.Maximum, kinds.Minimum][width % 6]
    return kind()([x, like(older, x)])


@step(2, 3, 4, 5)
def concatenate(x, older, width):
    along = 1 if width % 2 and len(x.shape) > 2 else -1
    return layers().Concatenate(axis=along)([x, like(older, x)])


@step(4)
def excite(x, older, width):
    squeezed = layers().GlobalAveragePooling2D(keepdims=bool(width % 2))(x)
    squeezed = layers().Dense(width, activation="relu")(layers().Reshape((1, 1, x.shape[-1]))(squeezed))
    return layers().Multiply()([x, layers().Dense(x.shape[-1], activation="sigmoid")(squeezed)])


@step(3, 4, 5)
def space(x, older, width):
    kind = ["MaxPooling*D", "AveragePooling*D", "ZeroPadding*D", "UpSampling*D"][width % 4]
    if min(x.shape[1:-1]) < 2 or (kind == "UpSampling*D" and max(x.shape[1:-1]) > 6):
        kind = "ZeroPadding*D"
    return by_rank(kind, x)()(x)


@step(4)
def resize(x, older, width):
    kinds = layers()
    return [kinds.Resizing(3, 4), kinds.RandomFlip(), kinds.Permute((2, 1, 3)), kinds.SpatialDropout2D(0.2)][width % 4](
        x
    )


@step(4)
def channels_first(x, older, width):
    x = layers().Permute((3, 1, 2))(x)
    x = layers().Conv2D(width, 1, data_format="channels_first")(x)
    return layers().Permute((2, 3, 1))(layers().BatchNormalization(axis=1)(x))


@step(4)
def to_signal(x, older, width):
    return layers().Reshape((-1, x.shape[-1]))(x)


@step(3)
def to_image(x, older, width):
    return layers().Reshape((1, *x.shape[1:]))(x)


@step(4)
def to_clip(x, older, width):
    return import_tensorflow().expand_dims(x, 1)


@step(5)
def at_each_step(x, older, width):
    return layers().TimeDistributed(layers().Conv2D(width, 2, padding="same"))(x)


@step(3, 4, 5)
def to_vector(x, older, width):
    return layers().Flatten()(x) if width % 2 else by_rank("GlobalMaxPooling*D", x)()(x)


@step(2)
def repeat(x, older, width):
    return layers().RepeatVector(3)(x)


@step(3)
def recurrent(x, older, width):
    kinds = layers()
    cells = [kinds.SimpleRNN, kinds.GRU, kinds.LSTM][width % 3](width, return_sequences=width % 2 == 0)
    return cells(x) if width % 4 < 2 else kinds.Bidirectional(cells, merge_mode=["concat", "sum"][width % 2])(x)


@step(3)
def attention(x, older, width):
    return layers().MultiHeadAttention(2, width)(x, x)


@step(2, 3, 4, 5)
def arithmetic(x, older, width):
    other = like(older, x)
    return [lambda: x * 0.5 + other, lambda: x / 2.0 + np.arange(x.shape[-1], dtype=np.float32), lambda: 1.0 - x * x][
        width % 3
    ]()


@step(3, 4, 5)
def cut_out(x, older, width):
    tf = import_tensorflow()
    if width % 2 or x.shape[-1] % 2:
        return x[..., : x.shape[-1] // 2 + 1]
    first, second = tf.split(x, 2, axis=-1)
    return first * second


@step(4)
def nested(x, older, width):
    keras = import_keras()
    image = keras.Input(x.shape[1:])
    inner = layers().Conv2D(width, 1, activation="relu")(image)
    block = keras.Model(image, layers().Add()([image, layers().Conv2D(x.shape[-1], 1)(inner)]))
    return block(block(x))


def random_inputs(model, seed, samples):
    """Return inputs of a network of one input: numbers, or words that its embedding knows."""
    rng, (source,) = np.random.default_rng(seed), model.inputs
    if source.dtype.is_integer:
        return rng.integers(0, 4, (samples, *source.shape[1:])).astype(np.float32)
    return rng.standard_normal((samples, *source.shape[1:])).astype(np.float32)


def start(kind):
    keras = import_keras()
    if kind == "words":
        words = keras.Input((5,), dtype="int32")
        return words, layers().Embedding(4, 6)(words)
    shapes = {"image": (5, 4, 2), "signal": (6, 2), "clip": (3, 4, 4, 2)}
    source = keras.Input(shapes[kind])
    return source, by_rank("Conv*D", source)(4, 2, padding="same")(source)


def grown(source, x, choices):
    """Return a network that ends in two dense layers; each choice is a number that picks the step and a width."""
    seen = [x]
    for choice, width in choices:
        steps = sorted(STEPS[len(x.shape)])
        older = [tensor for tensor in seen if len(tensor.shape) == len(x.shape)]
        x = STEPS[len(x.shape)][steps[choice % len(steps)]](x, older[width % len(older)], width)
        seen.append(x)
    if len(x.shape) > 2:
        x = layers().Flatten()(x)
    x = layers().Dense(5, activation="tanh", name="last_hidden")(x)
    return import_keras().Model(source, layers().Dense(3, activation="softmax", name="head")(x))


def believed_macs(result):
    """Return the cost model's value for the network without the channels that went."""
    groups = result.graph.prunable
    orders = [np.argsort(~result.keep[group.channels], kind="stable") for group in groups]
    kept = [int(result.keep[group.channels].sum()) for group in groups]
    return cost_of(result.model, result.graph, groups, orders, "macs")(kept)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    kind=st.sampled_from(["image", "signal", "clip", "words"]),
    choices=st.lists(st.tuples(st.integers(0, 999), st.integers(2, 7)), min_size=2, max_size=7),
    seed=st.integers(0, 999),
)
def test_any_channels_can_go_from_any_network(keras, cut, kind, choices, seed):
    result = cut(grown(*start(kind), choices), seed)  # checks masked equivalence
    frozen = [group.makers for group in result.graph.groups if group.frozen]
    assert {name for makers in frozen for name in makers} >= {"head"}
    assert not result.keep.all()
    assert believed_macs(result) == pytest.approx(count_macs(result.pruned), abs=1e-6)
    keras.backend.clear_session()


@pytest.mark.parametrize("rank", STEPS)
def test_every_step_alone(rank, cut, keras):
    """Hypothesis draws some of all: here each has its turn, at the widths that select each of its kinds."""
    shapes = {2: (6,), 3: (6, 4), 4: (4, 4, 4), 5: (3, 4, 4, 4)}
    for name, function in STEPS[rank].items():
        for width in (3, 4):
            source = keras.Input(shapes[rank])
            x = layers().Dense(6)(source)
            x = function(x, x, width)
            x = layers().Flatten()(x) if len(x.shape) > 2 else x
            model = keras.Model(source, layers().Dense(2)(layers().Dense(4, name="last_hidden")(x)))
            assert channel_groups(model).prunable, name
            result = cut(model)
            assert believed_macs(result) == pytest.approx(count_macs(result.pruned), abs=1e-6), name
            keras.backend.clear_session()
