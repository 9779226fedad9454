import pytest

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
IMAGE = (8, 8, 4)


@pytest.mark.parametrize(
    "function",
    [
        lambda k, x: x + 3.0,
        lambda k, x: 1.0 - x * x / 2.0,
        lambda k, x: -(x**2),
        lambda k, x: x + k.ops.mean(x, axis=[1, 2], keepdims=True),
        lambda k, x: k.ops.max(x, axis=-1),
        lambda k, x: k.ops.transpose(x, (0, 3, 1, 2)),
        lambda k, x: k.ops.reshape(x, (-1, 8, 32)),
        lambda k, x: k.ops.concatenate([x, k.ops.relu(x)], axis=-1),
        lambda k, x: k.ops.squeeze(k.ops.expand_dims(x, 1), 1),
        lambda k, x: x[:, ::2, 1:, :3],
        lambda k, x: x[..., 0],
        lambda k, x: k.ops.split(x, 2, axis=-1)[1],
        lambda k, x: k.ops.clip(x, -0.5, 0.5),
        lambda k, x: k.ops.softmax(x, axis=1),
        lambda k, x: k.ops.gelu(x),
        lambda k, x: k.ops.leaky_relu(x, 0.3),
        lambda k, x: k.ops.hard_sigmoid(x),
        lambda k, x: k.ops.sqrt(k.ops.abs(x)) + k.ops.exp(x) + k.ops.tanh(x) + k.ops.silu(x),
        lambda k, x: k.ops.matmul(x, k.ops.transpose(x, (0, 1, 3, 2))),
        lambda k, x: k.ops.cast(x, "float16"),
        lambda k, x: k.ops.stack([x, x], axis=2),
    ],
)
def test_operations_between_layers(keras3, carried, function):
    inputs = keras3.Input(IMAGE)
    assert carried(inputs, function(keras3, inputs)).input_shape == (None, *IMAGE)
