"""Check that what only reads a model leaves it unchanged bit for bit: over networks of every form, and all readers."""

import numpy as np
import pytest
from lookers import lookers, state_of
from small_networks import NETWORKS, operators

from pipeline.errors import SecateurError
from stages.keras.layer_calls import record_layers
from stages.keras.tensorflow import import_keras
from stages.prune.surgery.random_weights import randomize_weights

ALWAYS = {"record_layers", "first_not_finite", "facts", "copy", "fingerprint", "inspect", "predict", "criterion l2"}


FILES = {"tflite", "tflite int8", "onnx", "ladder", "profile", "verify"}  # converted once, of the first network


def samples(model, count=2):
    rng = np.random.default_rng(3)
    shapes = {name: tuple(tensor.shape)[1:] for name, tensor in zip(model.input_names, model.inputs, strict=True)}
    return {name: rng.normal(size=(count, *shape)).astype("float32") for name, shape in shapes.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_configuration_weights_and_outputs_are_the_same_after_everything_that_looks(name):
    model = NETWORKS[name]()
    arrays = samples(model)
    before, worked = state_of(model, arrays), set()
    for looker, look in lookers().items():
        if looker in FILES and name != "operators":
            continue
        try:
            look(model, arrays)
            worked.add(looker)
        except SecateurError:
            assert looker not in ALWAYS, looker
        assert state_of(model, arrays) == before, looker
    assert worked >= (ALWAYS if name != "wrapped" else ALWAYS - {"inspect", "criterion l2"})
    assert worked >= (FILES | {"prune", "sensitivity", "criterion taylor"} if name == "operators" else set())


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_recorded_is_what_the_model_computes(name):
    model = NETWORKS[name]()
    arrays = samples(model)
    calls = record_layers(model, arrays)
    given = list(arrays.values())
    outputs = model(given if len(given) > 1 else given[0], training=False)
    np.testing.assert_array_equal(calls[-1].outputs[0], outputs)
    kinds = {layer.name for layer in model._flatten_layers()}
    assert {call.layer for call in calls} <= kinds
    assert all(max(call.reads, default=-1) < place for place, call in enumerate(calls))


def test_an_operation_between_layers_still_computes_after_it_was_recorded():
    keras = import_keras()
    x = keras.Input((3,), name="x")
    model = keras.Model(x, (x * 2 + 1)[:, 1:])
    arrays = {"x": np.float32([[1, 2, 3]])}
    product, total, rest = record_layers(model, arrays)
    assert [one.outputs[0].tolist() for one in (product, total, rest)] == [[[2, 4, 6]], [[3, 5, 7]], [[5, 7]]]
    assert (product.reads, total.reads, rest.reads) == (frozenset(), {0}, {1})
    assert model(arrays["x"]).numpy().tolist() == [[5, 7]]


def test_the_law_notices_a_model_that_was_changed():
    model = randomize_weights(operators())
    arrays = samples(model)
    before = state_of(model, arrays)
    next(layer for layer in model.layers if layer.name.startswith("tf.math.multiply")).__dict__.pop("call")
    changed = state_of(model, arrays)
    assert changed["outputs"] != before["outputs"]
    assert changed["calls"] != before["calls"]
    assert changed["weights"] == before["weights"]
