"""Models that carry tfmot's wrappers come in as they are, survive being stored, and say where they go on."""

import numpy as np
import pytest

from pipeline.errors import ModelError
from stages.keras_format import copy_model, decode_model, encode_model
from stages.load import load_model
from stages.tf_runtime import import_tfmot

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


@pytest.fixture
def wrapped(keras2):
    """Makes a small network, wrapped for pruning, clustering or quantization."""
    tfmot, layers = import_tfmot(), keras2.layers
    linear = tfmot.clustering.keras.CentroidInitialization.LINEAR
    wrap = {
        "pruning": tfmot.sparsity.keras.prune_low_magnitude,
        "clustering": lambda m: tfmot.clustering.keras.cluster_weights(
            m, number_of_clusters=4, cluster_centroids_init=linear
        ),
        "quantization": tfmot.quantization.keras.quantize_model,
    }

    def make(kind):
        image = keras2.Input((6, 6, 2))
        x = layers.Conv2D(4, 3, name="conv")(image)
        x = layers.Flatten()(layers.ReLU()(layers.BatchNormalization(name="bn")(x)))
        return wrap[kind](keras2.Model(image, layers.Dense(3, name="head")(x)))

    return make


@pytest.mark.parametrize(
    ("kind", "suffix", "stage"),
    [
        ("pruning", "h5", "finetune"),
        ("pruning", "keras", "finetune"),
        ("clustering", "h5", "finetune"),
        ("clustering", "keras", "finetune"),
        ("quantization", "h5", "quantize"),
    ],
)
def test_wrapped_models_come_in_and_can_be_stored(wrapped, tmp_path, kind, suffix, stage):
    model = wrapped(kind)
    model.save(tmp_path / f"m.{suffix}")
    loaded = load_model(tmp_path / f"m.{suffix}")
    x = np.random.default_rng(0).normal(size=(3, 6, 6, 2)).astype("float32")
    assert np.array_equal(loaded.model(x, training=False), model(x, training=False))
    assert f"carry tfmot's {kind} wrapper" in loaded.notes[-1]
    assert f"`{stage}`" in loaded.notes[-1]
    data = encode_model(loaded.model)
    (tmp_path / "stored").write_bytes(data)
    stored = decode_model(tmp_path / "stored")
    assert np.array_equal(stored(x, training=False), model(x, training=False))
    assert encode_model(copy_model(stored)) == data


def test_quantized_models_do_not_survive_tfmots_own_keras_files(wrapped, tmp_path):
    wrapped("quantization").save(tmp_path / "m.keras")
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path / "m.keras")
    assert "as .h5" in caught.value.hint
