import numpy as np
import pytest

from pipeline.errors import PreconditionError
from stages.keras.regression.running import Network
from stages.reconstruct.same_graph import not_fitted, put_back_normalizations, require_same_graph


def refused(pruned, source, kept, match):
    with pytest.raises(PreconditionError, match=match) as caught:
        require_same_graph(Network.of(pruned), Network.of(source), kept)
    assert "directly after prune" in caught.value.hint
    return caught.value.where


def test_the_pruned_network_is_accepted_with_its_report_alone(small):
    require_same_graph(Network.of(small.pruned), Network.of(small.source), small.kept)
    for name in small.kept:
        others = {other: left for other, left in small.kept.items() if other != name}
        assert refused(small.pruned, small.source, others, "and the prune report leaves") == name


def test_shared_layers_on_two_inputs_are_the_same_graph(keras, cut_kept):
    one, other = keras.Input((4,)), keras.Input((4,))
    shared, layers = keras.layers.Dense(6, activation="relu"), keras.layers
    case = cut_kept(keras.Model([one, other], layers.Dense(2)(layers.Subtract()([shared(one), shared(other)]))))
    require_same_graph(Network.of(case.pruned), Network.of(case.source), case.kept)
    assert refused(case.pruned, case.source, {}, "and the prune report leaves 6 of 6") == shared.name


def without(keras, model, name):
    """Return the model with one layer fewer."""
    layers, image = keras.layers, keras.Input((6, 6, 2))
    x = image
    for layer in ("stem", "norm", "relu", "conv", "pool", "head"):
        if layer != name:
            x = layers.deserialize(layers.serialize(model.get_layer(layer)))(x)
    return keras.Model(image, x)


def test_a_layer_that_one_of_them_lacks_is_named(small, keras):
    chain = without(keras, small.source, "add")
    assert refused(without(keras, small.source, "norm"), chain, {}, "is not in the pruned model") == "norm"
    assert refused(chain, without(keras, small.source, "relu"), {}, "is not in the source") == "relu"


def test_a_layer_that_reads_another_one_is_named(small, keras):
    chain = without(keras, small.source, "add")
    assert refused(small.pruned, chain, {}, "is not in the source") == "separable"
    other = keras.models.clone_model(chain, clone_function=lambda layer: type(layer).from_config(layer.get_config()))
    require_same_graph(Network.of(other), Network.of(chain), {})
    image = keras.Input((6, 6, 2))
    swapped = image
    for name in ("stem", "relu", "norm", "conv", "pool", "head"):
        swapped = type(chain.get_layer(name)).from_config(chain.get_layer(name).get_config())(swapped)
    assert refused(keras.Model(image, swapped), chain, {}, "reads other layers in the source") == "relu"


def test_a_layer_of_another_class_is_named(keras):
    def built(activation):
        vector = keras.Input((3,))
        return keras.Model(vector, activation(keras.layers.Dense(3, name="dense")(vector)))

    one, other = built(keras.layers.ReLU(name="act")), built(keras.layers.Activation("relu", name="act"))
    assert refused(one, other, {}, "of class ReLU in the pruned model and Activation in the source") == "act"


def test_another_report_is_refused(small):
    assert refused(small.pruned, small.source, {}, "4 channels, and the prune report leaves 8 of 8") == "stem"
    kept = small.kept | {"conv": np.arange(3)}
    assert refused(small.pruned, small.source, kept, "has 4 channels, and the prune report leaves 3 of 8") == "conv"
    kept = small.kept | {"norm": np.arange(8)}
    assert refused(small.pruned, small.source, kept, "channels, and the prune report leaves 8") == "norm"
    kept = small.kept | {"conv": np.array([1, 2, 3, 8])}
    assert refused(small.pruned, small.source, kept, "leaves 4 of 8") == "conv"


def test_normalizations_get_the_values_of_the_channels_left(small):
    before = small.pruned.get_layer("norm").get_weights()
    others = small.pruned.get_layer("conv").get_weights()
    small.pruned.get_layer("norm").set_weights([value + 1 for value in before])
    put_back_normalizations(Network.of(small.pruned), Network.of(small.source), small.kept)
    for now, then in zip(small.pruned.get_layer("norm").get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    for now, then in zip(small.pruned.get_layer("conv").get_weights(), others, strict=True):
        np.testing.assert_array_equal(now, then)


def test_layers_of_other_kinds_that_read_fewer_are_named(keras, cut_kept):
    layers, words = keras.layers, keras.Input((5,), dtype="int32")
    x = layers.Embedding(4, 6, name="embedding")(words)
    x = layers.PReLU(name="prelu")(layers.Conv1D(6, 2, name="conv")(x))
    case = cut_kept(keras.Model(words, layers.Dense(2)(layers.LSTM(3, name="lstm")(x))))
    assert not_fitted(Network.of(case.pruned), Network.of(case.source)) == {"lstm": "LSTM"}


def test_a_wrapped_layer_that_only_makes_fewer_has_lost_nothing(keras, cut_kept):
    layers, steps = keras.layers, keras.Input((4, 5))
    first = layers.TimeDistributed(layers.Dense(8, activation="relu"), name="first")(steps)
    second = layers.TimeDistributed(layers.Dense(6, activation="relu"), name="second")(first)
    case = cut_kept(keras.Model(steps, layers.Dense(2)(layers.Flatten()(second))))
    assert case.pruned.get_layer("first").output_shape != case.source.get_layer("first").output_shape
    assert not_fitted(Network.of(case.pruned), Network.of(case.source)) == {"second": "TimeDistributed"}
