"""Load models that Keras 3 itself has quantized: they become what they compute without rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ModelError
from stages.keras.free_sizes import Wanted, shapes_of
from stages.load import load_model

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method"),
    pytest.mark.filterwarnings("ignore:Invalid quantization mode"),  # embeddings have no float8
]


@pytest.fixture
def network(keras3: Any) -> Any:
    """Build all kinds of layers that Keras 3 quantizes, one of them in a nested model."""
    keras3.utils.set_random_seed(1)
    layers = keras3.layers
    start = keras3.Input((6,), dtype="int32", name="words")
    inner = layers.Embedding(20, 8)(start)
    inner = layers.EinsumDense("bti,iho->btho", output_shape=(6, 2, 4), bias_axes="ho")(inner)
    inner = layers.Reshape((6, 8))(inner)
    nested = keras3.Sequential([keras3.Input((6, 8)), layers.Dense(8, activation="relu")])
    outputs = layers.Dense(3, activation="softmax", name="head")(layers.Flatten()(nested(inner)))
    return keras3.Model(start, outputs, name="net")


WORDS = np.arange(24).reshape(4, 6) % 20


@pytest.mark.parametrize(("mode", "layers"), [("int8", "4 layers were"), ("float8", "3 layers were")])
def test_a_quantized_model_is_taken_as_the_float_model_of_its_weights(
    network: Any, mode: str, layers: str, tmp_path: Path
) -> None:
    wanted = np.asarray(network(WORDS))
    network.quantize(mode)
    rounded = np.asarray(network(WORDS))
    network.save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras")
    (note,) = (note for note in loaded.notes if "quantized" in note)
    assert note.startswith(f"{layers} quantized to {mode} by Keras: the weights are float32")
    assert {weight.dtype.name for weight in loaded.model.weights} == {"float32"}
    found = np.asarray(loaded.model(WORDS))
    assert np.abs(rounded - wanted).max() > 1e-5  # or nothing was quantized
    assert np.abs(found - wanted).max() < 0.01
    assert loaded.translation_difference < 1e-5


def test_what_can_not_be_undone_is_refused_with_what_can_be_done(keras3: Any, tmp_path: Path) -> None:
    start = keras3.Input((6,))
    network = keras3.Model(start, keras3.layers.Dense(8)(start))
    network.quantize("int4")
    network.save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match="are quantized to int4") as caught:
        load_model(tmp_path / "m.keras")
    assert "before `model.quantize" in str(caught.value.hint)


def test_one_that_leaves_sizes_open_is_compared_at_what_is_wanted_or_where_it_runs(keras3: Any, tmp_path: Path) -> None:
    layers = keras3.layers
    x = image = keras3.Input((None, None, 3), name="image")
    x = layers.Conv2D(4, 13, strides=8)(x)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 12)(x))  # 101 pixels at least
    network = keras3.Model(image, layers.Dense(3)(x))
    network.quantize("int8")
    network.save(tmp_path / "m.keras")
    assert shapes_of(load_model(tmp_path / "m.keras").model) == {"image": (128, 128, 3)}
    wanted = Wanted(sizes=(101, 109))
    assert shapes_of(load_model(tmp_path / "m.keras", wanted=wanted).model) == {"image": (101, 109, 3)}
    with pytest.raises(ModelError, match=r"can't run at 93×93×3: ") as caught:
        load_model({"path": str(tmp_path / "m.keras"), "sizes": 93})
    assert caught.value.where == "model.sizes"
