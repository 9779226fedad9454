"""Load models that carry tfmot's wrappers, store them, and check how they continue.

Pruning wrappers are taken off, and what they had set to zero is kept.
"""

import numpy as np
import pytest

from pipeline.errors import ModelError, PreconditionError
from stages.keras.normal_form import copy_model, decode_model, encode_model
from stages.keras.tensorflow import import_tfmot
from stages.load import load_model

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


@pytest.fixture
def wrapped(keras2):
    """Build a small network, wrapped for pruning, clustering or quantization."""
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


def half_pruned(model, mask_share=0.5):
    """Return a model as tfmot leaves it within an epoch: masks are set, and the last step has moved what they mask."""
    rng = np.random.default_rng(1)
    masks = {}
    for layer in model.layers:
        for weight, mask, _ in getattr(layer, "pruning_vars", ()):
            masks[layer.layer.name] = kept = rng.random(weight.shape) >= mask_share
            mask.assign(kept.astype("float32"))
            weight.assign(rng.normal(size=weight.shape).astype("float32"))
    return masks


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_pruning_wrappers_are_taken_off_and_their_zeros_kept(wrapped, tmp_path, suffix):
    model = wrapped("pruning")
    masks = half_pruned(model)
    model.save(tmp_path / f"m.{suffix}")
    loaded = load_model(tmp_path / f"m.{suffix}")
    assert {type(layer).__name__ for layer in loaded.model.layers} & {"PruneLowMagnitude"} == set()
    assert loaded.model.output_names == ["head"]
    x = np.random.default_rng(0).normal(size=(3, 6, 6, 2)).astype("float32")
    expected = model(x, training=False)  # which masks the weights
    np.testing.assert_allclose(loaded.model(x, training=False), expected, rtol=1e-6)
    assert masks.keys() == {"conv", "head"}
    for name, mask in masks.items():
        kernel = loaded.model.get_layer(name).get_weights()[0]
        assert np.array_equal(kernel != 0, mask)
    values = [variable.numpy() for variable in loaded.sparsity.variables(loaded.model)]
    planned = zip(loaded.sparsity.kernels, loaded.sparsity.masks(values), strict=True)
    assert all(np.array_equal(kept, masks[kernel.layer]) for kernel, kept in planned)
    assert len(values) == 2
    assert "`finetune` keeps the zeros" in loaded.notes[0]
    encode_model(loaded.model)


def test_a_schedule_that_was_not_at_its_end_is_told_of(wrapped, tmp_path):
    model = wrapped("pruning")  # tfmot's default goes to 50 %
    model.save(tmp_path / "m.h5")
    begun = load_model(tmp_path / "m.h5")
    assert begun.sparsity is None
    (note,) = begun.notes
    assert "had set nothing to zero yet" in note
    assert "ratio: 0.5" in note
    half_pruned(model, 0.2)
    model.save(tmp_path / "m.h5")
    assert "its schedule went on to 50% zeros" in load_model(tmp_path / "m.h5").notes[1]
    half_pruned(model, 0.6)
    model.save(tmp_path / "m.h5")
    assert not any("schedule" in note for note in load_model(tmp_path / "m.h5").notes)


def test_marks_for_quantization_are_taken_off(keras2, tmp_path):
    image = keras2.Input((6, 6, 2))
    model = keras2.Model(image, keras2.layers.Dense(3, name="head")(keras2.layers.Flatten()(image)))
    marked = import_tfmot().quantization.keras.quantize_annotate_model(model)
    marked.save(tmp_path / "m.h5")
    loaded = load_model(tmp_path / "m.h5").model
    assert [type(layer).__name__ for layer in loaded.layers] == ["InputLayer", "Flatten", "Dense"]
    x = np.random.default_rng(0).normal(size=(3, 6, 6, 2)).astype("float32")
    assert np.array_equal(loaded(x, training=False), model(x, training=False))


@pytest.mark.parametrize(("kind", "hint"), [("clustering", "- strip"), ("quantization", "before quantization-aware")])
@pytest.mark.parametrize("method", ["structured", "unstructured"])
def test_what_is_wrapped_still_is_not_pruned(wrapped, kind, hint, method):
    from stages.prune.choosing.choice import ChoiceBasis, prepare
    from stages.prune.config import PruneConfig
    from stages.prune.unstructured import plan_for

    model, config = wrapped(kind), PruneConfig(method=method, ratio=0.5)
    with pytest.raises(PreconditionError, match=f"carry tfmot's {kind} wrapper, into which .* can't look: ") as caught:
        prepare(model, config, ChoiceBasis()) if method == "structured" else plan_for(model, config, 0)
    assert hint in caught.value.hint
