import numpy as np
import pytest

from pipeline.errors import PreconditionError
from stages.finetune.trainee import frozen, in_precision, precision_policy
from stages.keras.normal_form import random_inputs
from stages.keras.tensorflow import import_keras, import_tensorflow


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_in_16_bits_layers_compute_in_them_and_weights_and_outputs_stay_float32(network, policy):
    model = network()
    made = in_precision(model, policy)
    assert {layer.compute_dtype for layer in made.layers[:-1]} == {policy.removeprefix("mixed_")}
    assert made.layers[-1].compute_dtype == "float32"
    assert {weight.dtype.name for weight in made.weights} == {"float32"}
    for one, other in zip(model.get_weights(), made.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    (inputs,) = random_inputs(model)
    exact, near = model(inputs).numpy(), made(inputs).numpy()
    assert near.dtype == np.float32
    assert 0 < np.abs(exact - near).max() < 0.05


def test_nested_models_and_wrapped_layers_compute_in_16_bits_too(network):
    layers = import_keras().layers
    inner = import_keras().Sequential([layers.Input((4, 3)), layers.TimeDistributed(layers.Dense(2), name="timed")])
    image = import_keras().Input((4, 3))
    x = layers.Flatten()(inner(image) + 1.0)
    made = in_precision(import_keras().Model(image, layers.Dense(2)(x)), "mixed_bfloat16")
    timed = made.get_layer(inner.name).get_layer("timed")
    assert timed.layer.compute_dtype == "bfloat16"


def test_16_bits_are_bfloat16_where_there_is_no_gpu():
    assert not import_tensorflow().config.list_physical_devices("GPU")
    assert precision_policy() == "mixed_bfloat16"


def test_frozen_layers_do_not_learn_inside_and_do_afterwards(network):
    model = network()
    model.get_layer("conv").trainable = False

    def learning():
        return [layer.name for layer in model.layers if layer.trainable and layer.weights]

    with frozen(model, ["nor*"], batch_norm=False):
        assert learning() == ["head"]
    assert learning() == ["norm", "head"]
    with frozen(model, [], batch_norm=True):
        assert learning() == ["head"]
    assert learning() == ["norm", "head"]


def test_a_frozen_model_inside_another_is_as_it_was_afterwards(network):
    inner, image = network(), import_keras().Input((6, 6, 1))
    inner.get_layer("conv").trainable = False
    outer = import_keras().Model(image, import_keras().layers.Dense(2, name="last")(inner(image)))
    with frozen(outer, [inner.name], batch_norm=False):
        assert {variable.name for variable in outer.trainable_variables} == {"last/kernel:0", "last/bias:0"}
    assert not inner.get_layer("conv").trainable
    assert inner.get_layer("head").trainable
    assert inner.trainable


def test_patterns_that_match_nothing_are_named_with_the_nearest(network):
    with pytest.raises(PreconditionError, match="cnov") as caught, frozen(network(), ["cnov"], batch_norm=False):
        pass
    assert caught.value.where == "finetune.freeze"
    assert "conv" in caught.value.hint


def test_there_has_to_be_something_left_to_train(network):
    model = network()
    with pytest.raises(PreconditionError, match="nothing to train"), frozen(model, ["*"], batch_norm=False):
        pass
    assert all(layer.trainable for layer in model.layers)
