"""The size that stands for open ones is one at which the network runs, and every stage finds the same."""

import pytest

from pipeline.errors import ModelError
from stages.free_sizes import SIZES, filled, free_size
from stages.keras_format import copy_model, keras_facts, random_inputs
from stages.tf_runtime import import_keras


def halving(times):
    """Halvings and doublings, joined with the input: it runs at multiples of 2 ** times alone."""
    layers = import_keras().layers
    x = inputs = import_keras().Input((None, None, 1))
    for _ in range(times):
        x = layers.Conv2D(2, 3, 2, padding="same")(x)
    for _ in range(times):
        x = layers.Conv2DTranspose(2, 2, 2)(x)
    return import_keras().Model(inputs, layers.Conv2D(1, 1)(layers.Concatenate()([x, inputs])))


@pytest.mark.parametrize(("times", "size"), [(2, 96), (6, 128), (7, 128)])
def test_the_first_size_that_runs_stands_for_open_ones_everywhere(times, size):
    model = halving(times)
    assert free_size(model) == free_size(copy_model(model)) == size
    assert random_inputs(model)[0].shape == (4, size, size, 1)
    assert random_inputs(model, shapes={model.input_names[0]: (256, 128, 1)})[0].shape == (4, 256, 128, 1)
    facts = keras_facts(model)
    assert facts.macs > size * size


def test_unpadded_layers_may_need_more():
    layers, inputs = import_keras().layers, import_keras().Input((None, None, 1))
    x = layers.MaxPooling2D(4)(layers.MaxPooling2D(4)(inputs))
    model = import_keras().Model(inputs, layers.Conv2D(1, 7)(x))
    assert free_size(model) == 128  # 112 at least


def test_fixed_sizes_are_what_they_are_and_none_at_all_is_an_error():
    keras = import_keras()
    layers, inputs = keras.layers, keras.Input((None, 5))
    assert filled((None, None, 5), 96, 4) == (4, 96, 5)
    never = keras.Model(inputs, layers.Dense(2)(layers.Reshape((7 * 11 * 13 * 17, 5))(inputs)))
    with pytest.raises(ModelError, match=r"leaves sizes of its inputs open, and runs at none of 8, 16, .* 640"):
        free_size(never)
    assert len(set(SIZES)) == len(SIZES)
