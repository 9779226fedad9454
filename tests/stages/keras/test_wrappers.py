import pytest

from pipeline.errors import PreconditionError
from stages.keras.tensorflow import import_keras, import_tfmot
from stages.keras.wrappers import require_unwrapped, wrapper_of, wrappers_in


def dense_model(wrap=lambda layer: layer):
    keras = import_keras()
    return keras.Sequential([keras.Input((4,)), wrap(keras.layers.Dense(3, name="hidden"))])


def test_wrappers_are_found_by_purpose_in_nested_models_too():
    keras, tfmot = import_keras(), import_tfmot()
    pruned = dense_model(tfmot.sparsity.keras.prune_low_magnitude)
    outer = keras.Sequential([keras.Input((4,)), pruned, keras.layers.Dense(1, name="head")])
    assert wrappers_in(outer) == {"prune_low_magnitude_hidden": "pruning"}
    marked = tfmot.quantization.keras.quantize_annotate_model(dense_model())
    assert set(wrappers_in(marked).values()) == {"annotation"}
    assert wrapper_of(outer.layers[-1]) is None


def test_a_stage_that_can_not_look_into_them_says_what_to_do():
    require_unwrapped(dense_model(), "prune")
    wrapped = dense_model(import_tfmot().sparsity.keras.prune_low_magnitude)
    with pytest.raises(
        PreconditionError, match="1 layer carries tfmot's pruning wrapper, into which prune can't look: prune_low"
    ) as caught:
        require_unwrapped(wrapped, "prune")
    assert (caught.value.where, "`load`" in caught.value.hint) == ("prune", True)


def test_a_class_of_the_same_name_is_no_wrapper():
    keras = import_keras()

    class PruneLowMagnitude(keras.layers.Layer):
        pass

    theirs = import_tfmot().sparsity.keras.prune_low_magnitude(keras.layers.Dense(3))
    assert type(theirs).__name__ == PruneLowMagnitude.__name__
    assert (wrapper_of(PruneLowMagnitude()), wrapper_of(theirs)) == (None, "pruning")
