import numpy as np
import pytest

from stages.keras.precision import in_float32
from stages.prune import PruneConfig
from stages.prune.pruning import prune_model
from stages.prune.surgery.random_weights import randomize_weights


@pytest.fixture
def half(keras):
    """Build a network under mixed precision whose last layer is float32, as in Keras' guide."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        image = keras.Input((6, 6, 2))
        x = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, name="conv")(image))
        x = keras.layers.Flatten()(keras.layers.SeparableConv2D(8, 3, name="separable")(x))
        return keras.Model(image, keras.layers.Dense(3, activation="softmax", dtype="float32", name="head")(x))
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_half_precision_is_compared_in_float32_and_kept(half, randomize):
    result = prune_model(randomize(half), PruneConfig(ratio=0.5))
    assert result.report.equivalence_error < 1e-5
    assert result.model.get_layer("conv").dtype_policy.name == "mixed_float16"
    assert result.model.get_layer("head").dtype_policy.name == "float32"


def test_a_float32_twin_has_the_same_weights(half, randomize):
    twin = in_float32(randomize(half))
    assert {layer.dtype_policy.name for layer in twin.layers} == {"float32"}
    for left, right in zip(half.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert in_float32(twin) is twin


def test_random_weights_make_dead_channels_count(half):
    half.get_layer("conv").kernel.assign(np.zeros((3, 3, 2, 8)))
    assert randomize_weights(half) is half
    assert (half.get_layer("conv").kernel.numpy() != 0).all()
    variances = [weight for weight in half.weights if "moving_variance" in weight.name]
    assert min(float(weight.numpy().min()) for weight in variances) >= 0.5
    assert np.std(half.get_layer("separable").depthwise_kernel) == pytest.approx(1 / 3, rel=0.3)
