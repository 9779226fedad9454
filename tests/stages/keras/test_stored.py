import numpy as np
import pytest

from pipeline.contracts.stage import StageConfig
from stages.formats.onnx.convert import convert_onnx
from stages.formats.tflite.convert import convert_tflite
from stages.keras import stored as stored_models
from stages.keras.normal_form import MODEL_FILE, copy_model, decode_model, keras_facts, random_inputs
from stages.keras.stored import KeptModels, own_model, shared_model, write_checked, write_model, write_new
from stages.keras.tensorflow import import_keras


def small(seed=0, units=3):
    """Build what saving could lose: a normalization's constants, dropout, a shared layer, a frozen one."""
    keras = import_keras()
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    inputs = keras.Input((4,), name="features")
    normal = layers.Normalization(name="normal")
    normal.adapt(np.random.default_rng(seed).normal(3, 2, (50, 4)))
    shared = layers.Dense(4, activation="relu", name="shared")
    x = layers.Dropout(0.5, name="dropout")(shared(shared(normal(inputs))))
    x = layers.BatchNormalization(name="bn")(x)
    model = keras.Model(inputs, layers.Dense(units, activation="softmax", name="head")(x), name="small")
    model.get_layer("bn").trainable = False
    return model


@pytest.fixture
def stored(make_context):
    """Return a context whose input `model` is what `write` stored; all of them share what is kept."""

    def store(model, write=write_model):
        context = make_context(StageConfig())
        file = write(context, model)
        file = file[0] if isinstance(file, tuple) else file
        artifact = context.write_model(model).model_copy(update={"files": (file,), "facts": keras_facts(model)})
        return make_context(StageConfig(), inputs={"model": artifact})

    return store


def write_a_copy(context, model):
    return write_new(context, copy_model(model))


@pytest.mark.parametrize("write", [write_model, write_checked, write_a_copy])
def test_what_is_kept_is_what_the_blob_holds(stored, write):
    model = small()
    context = stored(model, write)
    kept, read = shared_model(context, "model"), decode_model(context.read("model", MODEL_FILE))
    inputs = random_inputs(model)
    for one in (kept, own_model(context, "model")):
        np.testing.assert_array_equal(one(inputs, training=False), read(inputs, training=False))
        assert one.get_config() == read.get_config()
        assert [w.trainable for w in one.weights] == [w.trainable for w in read.weights]
        assert convert_tflite(one, "float32") == convert_tflite(read, "float32")
        assert convert_onnx(one, "float32") == convert_onnx(read, "float32")


def test_readers_share_one_model_and_changing_the_original_or_ones_own_does_not_touch_it(stored):
    model = small()
    context = stored(model)
    first = shared_model(context, "model")
    before = [weight.copy() for weight in first.get_weights()]
    model.set_weights([weight + 1 for weight in model.get_weights()])
    own = own_model(context, "model")
    own.set_weights([weight + 2 for weight in own.get_weights()])
    assert shared_model(context, "model") is first
    for weight, kept in zip(before, first.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, kept)


def test_models_are_kept_while_they_are_small_together_the_newest_in_any_case(stored, monkeypatch):
    monkeypatch.setattr(stored_models, "KEPT_BYTES", 2 * sum(w.nbytes for w in small().get_weights()))
    contexts = [stored(small(seed)) for seed in (0, 1, 2)]
    kept = contexts[0].shared.of(KeptModels).shared
    assert len(kept) == 2
    first = shared_model(contexts[0], "model")  # read from its blob again
    assert shared_model(contexts[0], "model") is first
    assert len(kept) == 2
    huge = stored(small(units=1000))
    assert list(kept.values()) == [shared_model(huge, "model")]


def test_the_difference_of_what_was_stored_is_found(make_context):
    model = small()
    assert write_checked(make_context(StageConfig()), model)[1] == 0.0
    model.get_layer("bn").epsilon = 0.5  # then the configuration is read before the layer is changed back
    config, model.get_layer("bn").get_config = model.get_layer("bn").get_config(), lambda: {**config, "epsilon": 1e-3}
    assert write_checked(make_context(StageConfig()), model)[1] > 1e-3
