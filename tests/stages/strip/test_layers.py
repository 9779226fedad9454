import numpy as np

from stages.strip.layers import strip_model
from stages.tf_runtime import import_keras, import_tfmot


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
