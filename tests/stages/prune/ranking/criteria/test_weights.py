import numpy as np
import pytest


@pytest.mark.parametrize(
    ("criterion", "norm"), [("l1", lambda w: np.abs(w).mean()), ("l2", lambda w: np.sqrt((w**2).mean()))]
)
def test_filters_by_their_mean_size_over_the_layers_that_make_a_channel(two_layers, randomize, criterion, norm, scores):
    randomize(two_layers)
    a, b = (two_layers.get_layer(name).get_weights()[0] for name in "ab")
    expected = [(norm(a[..., i]) + norm(b[..., i])) / 2 for i in range(3)]
    np.testing.assert_allclose(scores(two_layers, criterion)["b"], expected, rtol=1e-6)


def test_scales_of_batch_normalization_or_nothing(two_layers, randomize, scores):
    layer = randomize(two_layers).get_layer("norm")
    layer.gamma.assign([0.5, -2.0, 0.0])
    found = scores(two_layers, "bn_scale")
    np.testing.assert_array_equal(found["b"], [0.5, 2.0, 0.0])
    assert found["separable"] is None


def test_lamp_is_one_for_the_biggest_filter_and_falls_with_the_rest(keras, randomize, scores):
    vector = keras.Input((2,))
    x = keras.layers.Dense(3, name="hidden", use_bias=False)(vector)
    model = randomize(keras.Model(vector, keras.layers.Dense(2)(x)))
    model.get_layer("hidden").kernel.assign([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
    np.testing.assert_allclose(scores(model, "lamp")["hidden"], [1 / 14, 4 / 13, 1.0])


def test_fpgm_ranks_what_lies_between_the_others_last(keras, randomize, scores):
    vector = keras.Input((1,))
    model = randomize(keras.Model(vector, keras.layers.Dense(2)(keras.layers.Dense(3, name="hidden")(vector))))
    model.get_layer("hidden").kernel.assign([[0.0, 1.0, 5.0]])
    np.testing.assert_allclose(scores(model, "fpgm")["hidden"], [3.0, 2.5, 4.5])
