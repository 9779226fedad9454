"""Continue half-finished work of tfmot: its models from load to verify, by the command line."""

import numpy as np
import pytest

from stages.keras.tensorflow import import_keras, import_tfmot

RECIPE = """\
name: wrapped
seed: 5
model: m.h5
data: {source: npz, path: d.npz, test: test, calibration: {take: 64}}
stages:
  - load
  - finetune: {epochs: 2, learning_rate: 0.005}
  - strip
  - quantize: {schemes: [int8]}
  - export: {formats: [tflite]}
  - verify: {max_accuracy_drop: 0.1}
"""
pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


def samples(count, seed):
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 3
    noise = rng.standard_normal((count, 6, 6, 2))
    return (noise + 1.5 * np.eye(3)[y][:, :2, None, None].transpose(0, 2, 3, 1)).astype(np.float32), y


@pytest.fixture
def begun(tmp_path):
    """Make a network that tfmot has wrapped and trained a little, with its data and a recipe."""
    keras, tfmot = import_keras(), import_tfmot()
    linear = tfmot.clustering.keras.CentroidInitialization.LINEAR
    steady = tfmot.sparsity.keras.ConstantSparsity(0.6, begin_step=0, frequency=1)
    wrap = {
        "pruning": lambda m: tfmot.sparsity.keras.prune_low_magnitude(m, steady),
        "clustering": lambda m: tfmot.clustering.keras.cluster_weights(
            m, number_of_clusters=8, cluster_centroids_init=linear
        ),
        "quantization": tfmot.quantization.keras.quantize_model,
    }

    def make(kind):
        keras.utils.set_random_seed(3)
        layers, image = keras.layers, keras.Input((6, 6, 2), name="image")
        x = layers.Conv2D(8, 3, name="conv")(image)
        x = layers.Flatten()(layers.ReLU()(layers.BatchNormalization(name="bn")(x)))
        model = wrap[kind](keras.Model(image, layers.Dense(3, activation="softmax", name="head")(x)))
        model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
        callbacks = [tfmot.sparsity.keras.UpdatePruningStep()] if kind == "pruning" else []
        model.fit(*samples(240, 0), epochs=3, verbose=0, callbacks=callbacks)
        model.save(tmp_path / "m.h5")
        (x_train, y_train), (x_test, y_test) = samples(240, 0), samples(90, 1)
        np.savez(tmp_path / "d.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
        (tmp_path / "r.yaml").write_text(RECIPE)
        return model

    return make


@pytest.fixture
def result(tmp_path, secateur_here):
    """Run the recipe; return its manifest, its messages, and the weights of the model that a stage made."""

    def run():
        code, manifest, err = secateur_here("run", tmp_path / "r.yaml", "--store", tmp_path / "store", "--json")
        assert code == 0, err
        return manifest, err, lambda stage: stored(tmp_path, manifest, stage)

    return run


def stored(folder, manifest, stage):
    from stages.keras.normal_form import decode_model

    entry = next(entry for entry in manifest["stages"] if entry["id"] == stage)
    file = next(f for o in entry["outputs"] if o["kind"] == "keras-model" for f in o["files"] if "keras" in f["name"])
    return decode_model(folder / "store" / "blobs" / "sha256" / file["digest"].removeprefix("sha256:"))


def kernels(model):
    return {layer.name: layer.get_weights()[0] for layer in model.layers if layer.name in ("conv", "head")}


def test_pruning_goes_on_with_its_zeros_in_place(begun, result):
    wrapped = begun("pruning")
    before = {layer.layer.name: layer.layer.get_weights()[0] for layer in wrapped.layers if layer.trainable_weights}
    manifest, err, model_of = result()
    assert "carried tfmot's pruning wrapper" in err
    loaded, tuned, stripped = (kernels(model_of(stage)) for stage in ("load", "finetune", "strip"))
    for name in ("conv", "head"):
        assert np.mean(loaded[name] == 0) == pytest.approx(0.6, abs=0.01)
        assert np.array_equal(loaded[name] != 0, before[name] != 0)
        assert np.array_equal(tuned[name] == 0, loaded[name] == 0)
        assert not np.array_equal(tuned[name], loaded[name])
        assert np.array_equal(stripped[name], tuned[name])
    metrics = manifest["metrics"]
    assert metrics["finetune.sparsity"] == pytest.approx(0.6, abs=0.05)
    assert metrics["tflite/int8.accuracy"] > 0.6


def test_clusters_are_trained_and_then_stripped(begun, result):
    begun("clustering")
    manifest, err, model_of = result()
    assert "carry tfmot's clustering wrapper" in err
    assert {type(layer).__name__ for layer in model_of("finetune").layers} >= {"ClusterWeights"}
    stripped = model_of("strip")
    assert not any("Cluster" in type(layer).__name__ for layer in stripped.layers)
    for values in kernels(stripped).values():
        assert len(np.unique(values)) <= 8
    assert manifest["metrics"]["tflite/int8.accuracy"] > 0.6


def test_what_was_trained_for_int8_is_trained_on_and_exported_to_the_step(begun, result, tmp_path, secateur_here):
    begun("quantization")
    manifest, err, _ = result()
    assert "carry tfmot's quantization wrapper" in err
    metrics = manifest["metrics"]
    assert metrics["tflite/int8.accuracy"] > 0.6
    assert metrics["tflite/int8.max_abs_diff"] < 0.01  # Keras computes in the same steps
    (tmp_path / "r.yaml").write_text(RECIPE.replace("[int8]", "[float32]").replace("[tflite]", "[onnx]"))
    code, _, err = secateur_here("run", tmp_path / "r.yaml", "--store", tmp_path / "store")
    assert code == 4
    assert "trained for int8" in " ".join(err.split())
