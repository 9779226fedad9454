"""Test quantization-aware training: which layers take part, that names stay, and what is preserved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.errors import PreconditionError
from stages.finetune.aware import aware_model
from stages.finetune.config import FinetuneConfig, QuantizationAware
from stages.finetune.training import fine_tune
from stages.keras.tensorflow import import_keras
from stages.keras.wrappers import QUANTIZATION, wrappers_in


@pytest.fixture
def network() -> Any:
    """Build convolution, normalization, a separable convolution, and a layer that tfmot does not know."""
    keras = import_keras()
    keras.utils.set_random_seed(11)
    layers, image = keras.layers, keras.Input((6, 6, 2), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv")(image)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
    x = layers.SeparableConv2D(8, 3, name="separable")(x)
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.Flatten(name="flat")(x)
    return keras.Model(image, layers.Dense(3, activation="softmax", name="head")(x), name="network")


@pytest.fixture
def images() -> Any:
    rng = np.random.default_rng(0)
    y = np.arange(96) % 3
    x = rng.standard_normal((96, 6, 6, 2)) + 1.5 * np.eye(3)[y][:, :2, None, None].transpose(0, 2, 3, 1)
    return x.astype(np.float32), y


def test_known_layers_are_wrapped_under_their_own_names_and_others_named(network: Any) -> None:
    aware = aware_model(network, QuantizationAware())
    assert aware.outside == ("norm (LayerNormalization)",)
    wrapped = wrappers_in(aware.training)
    assert set(wrapped.values()) == {QUANTIZATION}
    assert {"conv", "head"} <= set(wrapped)
    assert "norm" not in wrapped
    assert aware.training.output_names == ["head"]
    assert aware.training.input_names == ["image"]
    assert aware.settle() is aware.training


def test_excluded_layers_stay_as_they_are_and_must_exist(network: Any) -> None:
    aware = aware_model(network, QuantizationAware(exclude=("head",)))
    assert "head" not in wrappers_in(aware.training)
    assert aware.outside == ("norm (LayerNormalization)",)
    with pytest.raises(PreconditionError, match='no layer matches "haed"'):
        aware_model(network, QuantizationAware(exclude=("haed",)))


def test_where_nothing_can_be_trained_for_int8_that_is_said() -> None:
    keras = import_keras()
    inputs = keras.Input((4,), name="x")
    inner = keras.Model(inputs, keras.layers.LayerNormalization(name="norm")(inputs), name="inner")
    with pytest.raises(PreconditionError, match="none of the model's layers"):
        aware_model(inner, QuantizationAware())
    outer = keras.Input((4,), name="y")
    with pytest.raises(PreconditionError, match="'inner' is one"):
        aware_model(keras.Model(outer, inner(outer)), QuantizationAware())


@pytest.mark.parametrize("preserve", ["sparsity", None])
def test_zeros_are_preserved_if_that_is_asked_for(
    preserve: Any, network: Any, images: Any, make_split: Callable[..., Any]
) -> None:
    kernel = network.get_layer("conv").kernel
    mask = np.random.default_rng(1).random(kernel.shape) < 0.5
    kernel.assign(kernel.numpy() * mask)
    aware = aware_model(network, QuantizationAware(preserve=preserve))
    split = make_split("train", *images)
    config = FinetuneConfig(epochs=1, batch=16, learning_rate=0.01)
    fine_tune(aware.training, config, split, make_split("validation", *images), seed=3)
    settled = aware.settle()
    trained = next(weight for weight in settled.get_layer("conv").weights if "kernel:0" in weight.name).numpy()
    assert not np.array_equal(trained, kernel.numpy())
    assert np.array_equal(trained != 0, mask) == (preserve == "sparsity")
    np.testing.assert_allclose(
        np.asarray(settled(images[0], training=False)),
        np.asarray(aware.training(images[0], training=False)),
        atol=1e-5,
    )


def test_clusters_are_preserved(network: Any, images: Any, make_split: Callable[..., Any]) -> None:
    kernel = network.get_layer("head").kernel
    levels = np.linspace(-0.3, 0.3, 4).astype(np.float32)
    kernel.assign(levels[np.random.default_rng(2).integers(0, 4, kernel.shape)])
    aware = aware_model(network, QuantizationAware(preserve="clusters"))
    config = FinetuneConfig(epochs=1, batch=16, learning_rate=0.01)
    fine_tune(aware.training, config, make_split("train", *images), make_split("validation", *images), seed=3)
    trained = next(w for w in aware.settle().get_layer("head").weights if "kernel:0" in w.name).numpy()
    assert not np.array_equal(trained, kernel.numpy())
    assert len(np.unique(trained)) <= 4


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="in float32 on one device"):
        FinetuneConfig(quantization_aware=QuantizationAware(), mixed_precision=True)
