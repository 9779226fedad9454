import io
import zipfile

import h5py
import numpy as np

from stages.keras.normal_form import encode_model
from stages.keras.stripping.layers import strip_model
from stages.keras.tensorflow import import_keras, import_tensorflow, import_tfmot
from stages.strip.stage import output_difference


def outputs(model, seed=0):
    x = np.random.default_rng(seed).normal(size=(4, 8, 8, 2)).astype("float32")
    return model.predict(x, verbose=0)


def trained_model(regularizer="l2"):
    layers = import_keras().layers
    return import_keras().Sequential(
        [
            layers.Input((8, 8, 2)),
            layers.GaussianNoise(0.5, name="noise"),
            layers.Conv2D(4, 3, kernel_regularizer=regularizer, name="conv"),
            layers.BatchNormalization(name="bn"),
            layers.SpatialDropout2D(0.5, name="spatial"),
            layers.Flatten(name="flat"),
            layers.Dropout(0.5, name="drop"),
            layers.Dense(3, name="head"),
        ],
        name="trained",
    )


def test_training_only_parts_go_and_outputs_stay():
    model = trained_model()
    stripped = strip_model(model)
    assert stripped.removed == (
        "noise: GaussianNoise",
        "conv: kernel_regularizer",
        "spatial: SpatialDropout2D",
        "drop: Dropout",
    )
    assert np.array_equal(outputs(stripped.model), outputs(model))
    kinds = {type(layer).__name__ for layer in stripped.model.layers}
    assert not kinds & {"Dropout", "GaussianNoise", "SpatialDropout2D"}
    assert stripped.model.get_layer("conv").kernel_regularizer is None
    assert model.get_layer("conv").kernel_regularizer is not None
    assert [layer.name for layer in stripped.model.layers] == [layer.name for layer in model.layers]


def test_a_model_without_such_parts_is_left_as_it_is():
    layers = import_keras().layers
    model = import_keras().Sequential([layers.Input((8, 8, 2)), layers.Conv2D(2, 3)])
    stripped = strip_model(model)
    assert stripped.removed == ()
    assert stripped.model is model


def test_pruning_wrappers_of_tfmot_are_taken_off():
    layers = import_keras().layers
    plain = import_keras().Sequential([layers.Input((8, 8, 2)), layers.Conv2D(4, 3, name="conv"), layers.Flatten()])
    wrapped = import_tfmot().sparsity.keras.prune_low_magnitude(plain)
    stripped = strip_model(wrapped)
    assert [type(layer).__name__ for layer in stripped.model.layers] == ["Conv2D", "Flatten"]
    assert any("pruning wrapper" in note for note in stripped.removed)
    assert np.allclose(outputs(stripped.model), outputs(wrapped))


def test_clustering_wrappers_of_tfmot_are_taken_off():
    layers, clustering = import_keras().layers, import_tfmot().clustering.keras
    plain = import_keras().Sequential([layers.Input((8, 8, 2)), layers.Conv2D(4, 3, name="conv")])
    start = clustering.CentroidInitialization.LINEAR
    wrapped = clustering.cluster_weights(plain, number_of_clusters=4, cluster_centroids_init=start)
    stripped = strip_model(wrapped)
    assert stripped.removed == ("cluster_conv: clustering wrapper",)
    assert [type(layer).__name__ for layer in stripped.model.layers] == ["Conv2D"]
    assert len(np.unique(stripped.model.get_weights()[0])) == 4
    assert np.allclose(outputs(stripped.model), outputs(wrapped))


def test_augmentation_goes_also_in_a_nested_model_at_the_front():
    keras = import_keras()
    layers = keras.layers
    front = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.RandomFlip(name="flip"),
            layers.RandomRotation(0.1, name="turn"),
            layers.RandomTranslation(0.1, 0.1, name="shift"),
            layers.RandomZoom(0.1, name="zoom"),
            layers.RandomContrast(0.1, name="contrast"),
            layers.RandomBrightness(0.1, name="light"),
            layers.RandomCrop(8, 8, name="crop"),
        ],
        name="augment",
    )
    image = keras.Input((8, 8, 2))
    x = layers.Conv2D(3, 3, kernel_regularizer="l2", name="conv")(front(image))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(layers.RandomHeight(0.1, name="tall")(x)))
    stripped = strip_model(model)
    assert [note.partition(": ")[2] for note in stripped.removed] == [
        *(f"Random{what}" for what in ("Flip", "Rotation", "Translation", "Zoom", "Contrast", "Brightness", "Crop")),
        "kernel_regularizer",
        "RandomHeight",
    ]
    kinds = {type(layer).__name__ for layer in stripped.model.get_layer("augment").layers}
    assert kinds <= {"InputLayer", "Activation"}
    assert np.array_equal(outputs(stripped.model), outputs(model))


def test_a_random_crop_leaves_the_resizing_that_it_is_in_inference():
    keras = import_keras()
    model = keras.Sequential([keras.Input((8, 8, 2)), keras.layers.RandomCrop(5, 6, name="crop")])
    stripped = strip_model(model)
    assert type(stripped.model.get_layer("crop")).__name__ == "Resizing"
    assert stripped.model.output_shape == (None, 5, 6, 2)
    assert np.allclose(outputs(stripped.model), outputs(model), atol=1e-6)


def test_integers_are_still_made_floating_where_augmentation_did_it():
    keras = import_keras()
    front = [keras.Input((8, 8, 2), dtype="uint8"), keras.layers.RandomFlip(name="flip"), keras.layers.Conv2D(2, 3)]
    model = keras.Sequential(front)
    stripped = strip_model(model)
    x = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 2)).astype("uint8")
    assert np.array_equal(stripped.model(x, training=False), model(x, training=False))


def test_dropout_inside_recurrent_layers_and_what_wrappers_hold_goes():
    keras = import_keras()
    layers = keras.layers
    inner = layers.LSTM(3, dropout=0.2, recurrent_dropout=0.1, kernel_regularizer="l2", return_sequences=True)
    entry = keras.Input((5, 4))
    x = layers.Bidirectional(inner, name="both_ways")(entry)
    x = layers.MultiHeadAttention(2, 3, dropout=0.3, name="attention")(x, x)
    model = keras.Model(entry, x)
    stripped = strip_model(model)
    assert set(stripped.removed) == {
        "both_ways: dropout",
        "both_ways: recurrent_dropout",
        "both_ways: kernel_regularizer",
        "attention: dropout",
    }
    assert stripped.model.get_layer("both_ways").forward_layer.cell.dropout == 0
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    assert np.allclose(stripped.model(x, training=False), model(x, training=False), atol=1e-7)


def test_normalization_computes_with_its_weights_after_stripping():
    keras = import_keras()
    norm = keras.layers.Normalization(name="norm")
    norm.adapt(np.random.default_rng(0).normal(3, 2, (50, 8, 8, 2)))
    model = keras.Sequential([keras.Input((8, 8, 2)), norm, keras.layers.Dropout(0.5)])
    assert np.array_equal(outputs(strip_model(model).model), outputs(model))


def test_losses_and_metrics_that_were_added_go_with_all_that_only_they_read():
    keras, tf = import_keras(), import_tensorflow()
    image = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(4, 3, name="conv")(image)
    side = keras.layers.Dense(1, name="side")(keras.layers.Flatten(name="flat")(x))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pool")(x))
    model.add_loss(tf.reduce_mean(side))
    model.add_metric(tf.reduce_max(x), name="peak")
    stripped = strip_model(model)
    assert [layer.name for layer in stripped.model.layers] == [image.name, "conv", "pool"]
    assert stripped.model.losses == stripped.model.metrics == []
    assert {"side: Dense, only for a loss or metric", "flat: Flatten, only for a loss or metric"} < set(
        stripped.removed
    )
    assert np.array_equal(outputs(stripped.model), outputs(model))


def test_wrappers_in_nested_models_go_before_folding():
    keras, prune = import_keras(), import_tfmot().sparsity.keras.prune_low_magnitude
    layers = keras.layers
    inner = keras.Sequential([keras.Input((8, 8, 2)), layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization()])
    head = prune(layers.Dense(3, activation="softmax", name="head"))
    model = keras.Sequential([keras.Input((8, 8, 2)), prune(inner), layers.Flatten(), head])
    stripped = strip_model(model, fold_batch_norm=True)
    assert len(stripped.removed) == 3
    assert [note.endswith(" into conv") for note in stripped.folded] == [True]
    assert stripped.model.layers[-1].name == "head"
    assert output_difference(model, stripped.model) < 1e-6


def test_nothing_of_training_is_in_the_stored_form():
    model = trained_model()
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.zeros((4, 8, 8, 2)), np.zeros((4, 3)), verbose=0)
    with zipfile.ZipFile(io.BytesIO(encode_model(strip_model(model).model))) as archive:
        config = archive.read("config.json").decode()
        weights = io.BytesIO(archive.read("model.weights.h5"))
    assert not [word for word in ("optimizer", "loss", "metrics", "compile_config") if word in config]
    with h5py.File(weights) as file:
        assert "optimizer" not in file
        found = []
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    assert len(found) == len(model.weights)
