"""Load models of Keras 3: their weights, and how far translated outputs may be from Keras 3's."""

import pytest

from stages.load import load_model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def test_lora_is_merged(keras3, carried):
    inputs, dense = keras3.Input((6,)), keras3.layers.Dense(3, name="dense")
    outputs = dense(inputs)
    dense.enable_lora(2)
    model = carried(inputs, outputs)
    assert [tuple(weight.shape) for weight in model.get_layer("dense").weights] == [(6, 3), (3,)]


def test_half_precision_is_judged_by_its_own_rounding(keras3, tmp_path):
    layers, inputs = keras3.layers, keras3.Input((8, 8, 3))
    x = layers.BatchNormalization(dtype="mixed_float16")(layers.Conv2D(12, 3, dtype="mixed_float16")(inputs))
    keras3.Model(inputs, layers.Dense(3, dtype="float32")(layers.GlobalAveragePooling2D()(x))).save(
        tmp_path / "m.keras"
    )
    assert 0 <= load_model(tmp_path / "m.keras").translation_difference <= 5e-3
