import numpy as np
import pytest

from pipeline.contracts.shared import Shared
from pipeline.contracts.stage import StageConfig
from pipeline.errors import ModelError
from pipeline.records.manifest import Fingerprint
from stages.keras import fingerprints
from stages.keras.fingerprints import check_fingerprint, fingerprint_of
from stages.keras.normal_form import MODEL_FILE, keras_facts
from stages.keras.stored import own_model, reference_model, shared_model, untouched_model, write_model
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.prune.surgery.random_weights import randomize_weights


def gated(first=None):
    """Build two outputs; between its layers are operations whose calls are on the instance."""
    keras = import_keras()
    x = keras.Input((6,), name="x")
    h = keras.layers.Dense(5, activation="relu", name="hidden")(x if first is None else first(x))
    h = h * 2.0 + 1.0
    heads = [keras.layers.Dense(3, name="scores")(h), keras.layers.Dense(1, activation="sigmoid", name="gate")(h)]
    return randomize_weights(keras.Model(x, heads, name="gated"))


def elsewhere(fingerprint):
    """Return the fingerprint as recorded on another machine: with other bits."""
    return fingerprint.model_copy(update={"environment": "another processor", "bits": "sha256:" + "1" * 64})


def test_a_model_has_its_own_fingerprint_and_another_ones_not():
    model = gated()
    found = fingerprint_of(model, threads=2)
    assert [len(output.values) for output in found.outputs] == [3, 1]
    scores = np.asarray(found.outputs[0].values)
    assert found.outputs[0].scale == pytest.approx(np.abs(scores).max())
    assert Fingerprint.model_validate_json(found.model_dump_json()) == found
    check_fingerprint(model, found, 2, "here")
    next(layer for layer in model.layers if layer.name.startswith("tf.math.multiply")).__dict__.pop("call")
    for wanted in (found, elsewhere(found)):
        with pytest.raises(ModelError, match="computes something else") as caught:
            check_fingerprint(model, wanted, 2, "here")
        assert caught.value.where == "here"


@pytest.mark.parametrize(("change", "same", "other"), [(0.0, True, True), (1e-7, False, True), (1e-3, False, False)])
def test_bits_count_in_the_same_environment_and_five_digits_in_another(change, same, other):
    model = gated()
    found = fingerprint_of(model, threads=2)
    assert found.tolerance == pytest.approx(1e-5, rel=2)  # for a network that amplifies nothing
    head = model.get_layer("scores")
    head.set_weights([head.kernel.numpy() * np.float32(1 + change), head.bias.numpy() * np.float32(1 + change)])
    for wanted, passes in ((found, same), (elsewhere(found), other)):
        if passes:
            check_fingerprint(model, wanted, 2, "here")
        else:
            with pytest.raises(ModelError):
                check_fingerprint(model, wanted, 2, "here")


def test_other_thread_counts_are_another_environment():
    assert len({fingerprints.environment(threads) for threads in (1, 2)}) == 2


def test_a_network_that_amplifies_rounding_is_given_room_for_it():
    keras = import_keras()
    x = keras.Input((4,), name="x")
    steep = keras.Model(x, import_tensorflow().sin(x * 1e5))
    assert fingerprint_of(steep, threads=2).tolerance > 0.1


def test_what_draws_random_numbers_at_inference_passes_and_what_gives_nan_has_no_fingerprint():
    tf = import_tensorflow()
    noisy = gated(lambda x: x + tf.random.normal((1, 6)))
    check_fingerprint(noisy, fingerprint_of(noisy, threads=2), 2, "here")
    assert fingerprint_of(gated(lambda x: tf.math.log(x * 0 - 1)), threads=2) is None


@pytest.fixture
def stored(make_context):
    """Return a context whose input `model` was written by a stage, and what that stage recorded."""
    writer = make_context(StageConfig())
    model = gated()
    file = write_model(writer, model)
    artifact = writer.write_model(model).model_copy(update={"files": (file,), "facts": keras_facts(model)})
    return make_context(StageConfig(), inputs={"model": artifact}, fingerprints=writer.fingerprints)


def test_a_stored_model_is_held_against_its_fingerprint_whenever_it_is_read(stored):
    stored.shared = Shared()
    shared_model(stored, "model")
    digest = stored.inputs["model"].file(MODEL_FILE).digest
    other = fingerprint_of(gated(lambda x: x * 3), threads=stored.threads)
    stored.fingerprints[digest] = other
    stored.shared = Shared()
    for read in (shared_model, own_model, reference_model):
        with pytest.raises(ModelError, match="computes something else"):
            read(stored, "model")


def damaged(model):
    for layer in model.layers:
        layer.__dict__.pop("call", None)


def reweighted(model):
    model.set_weights([weight + 0.5 for weight in model.get_weights()])


@pytest.mark.parametrize("change", [damaged, reweighted])
def test_the_model_in_memory_is_measured_while_it_is_as_it_was_stored(stored, change):
    shared, x = shared_model(stored, "model"), np.ones((1, 6), np.float32)
    right = shared(x)[0].numpy()
    assert untouched_model(stored, "model") is shared
    change(shared)
    assert not np.allclose(shared(x)[0], right)
    assert untouched_model(stored, "model") is not shared
    np.testing.assert_array_equal(untouched_model(stored, "model")(x)[0], right)


def test_a_model_without_a_fingerprint_is_read_anew_to_be_measured(stored):
    shared = shared_model(stored, "model")
    stored.fingerprints.clear()
    assert untouched_model(stored, "model") is reference_model(stored, "model") is not shared


def test_what_measures_reads_the_stored_bytes_whatever_became_of_the_model_in_memory(stored):
    shared, x = shared_model(stored, "model"), np.ones((1, 6), np.float32)
    right = shared(x)[0].numpy()
    damaged(shared)
    assert not np.allclose(shared(x)[0], right)
    np.testing.assert_array_equal(reference_model(stored, "model")(x)[0], right)
