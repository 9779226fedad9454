import numpy as np
import pytest


@pytest.mark.parametrize(
    ("criterion", "norm"), [("l1", lambda w: np.abs(w).mean()), ("l2", lambda w: np.sqrt((w**2).mean()))]
)
def test_filters_by_their_mean_size_over_the_layers_that_make_a_channel(two_layers, randomise, criterion, norm, scores):
    randomise(two_layers)
    a, b = (two_layers.get_layer(name).get_weights()[0] for name in "ab")
    expected = [(norm(a[..., i]) + norm(b[..., i])) / 2 for i in range(3)]
    np.testing.assert_allclose(scores(two_layers, criterion)["b"], expected, rtol=1e-6)


def test_separable_filters_are_pointwise_times_depthwise(two_layers, randomise, scores):
    depthwise, pointwise, _ = randomise(two_layers).get_layer("separable").get_weights()
    sizes = np.sqrt((depthwise**2).mean((0, 1))).ravel()  # channel 0 first, its two filters, then channel 1
    expected = np.sqrt(((pointwise[0, 0] * sizes[:, None]) ** 2).mean(0))
    np.testing.assert_allclose(scores(two_layers, "l2")["separable"], expected, rtol=1e-6)


def test_scales_of_batch_normalisation_or_nothing(two_layers, randomise, scores):
    layer = randomise(two_layers).get_layer("norm")
    layer.gamma.assign([0.5, -2.0, 0.0])
    found = scores(two_layers, "bn_scale")
    np.testing.assert_array_equal(found["b"], [0.5, 2.0, 0.0])
    assert found["separable"] is None


def test_scores_of_concatenated_layers_go_to_their_own_channels(keras, randomise, scores):
    image = keras.Input((4, 4, 2))
    parts = [keras.layers.Conv2D(n, 1, name=name, use_bias=False)(image) for name, n in (("a", 2), ("b", 3))]
    x = keras.layers.BatchNormalization(name="norm")(keras.layers.Concatenate()(parts))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    model.get_layer("norm").gamma.assign([1.0, 2.0, 3.0, 4.0, 5.0])
    found = scores(randomise(model), "bn_scale")
    gamma = model.get_layer("norm").gamma.numpy()
    np.testing.assert_array_equal(found["a"], gamma[:2])
    np.testing.assert_array_equal(found["b"], gamma[2:])


def test_lamp_is_one_for_the_biggest_filter_and_falls_with_the_rest(keras, randomise, scores):
    vector = keras.Input((2,))
    x = keras.layers.Dense(3, name="hidden", use_bias=False)(vector)
    model = randomise(keras.Model(vector, keras.layers.Dense(2)(x)))
    model.get_layer("hidden").kernel.assign([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
    np.testing.assert_allclose(scores(model, "lamp")["hidden"], [1 / 14, 4 / 13, 1.0])


def test_fpgm_ranks_what_lies_between_the_others_last(keras, randomise, scores):
    vector = keras.Input((1,))
    model = randomise(keras.Model(vector, keras.layers.Dense(2)(keras.layers.Dense(3, name="hidden")(vector))))
    model.get_layer("hidden").kernel.assign([[0.0, 1.0, 5.0]])
    np.testing.assert_allclose(scores(model, "fpgm")["hidden"], [3.0, 2.5, 4.5])
