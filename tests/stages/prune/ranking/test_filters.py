import numpy as np


def test_separable_filters_are_pointwise_times_depthwise(two_layers, randomize, scores):
    depthwise, pointwise, _ = randomize(two_layers).get_layer("separable").get_weights()
    sizes = np.sqrt((depthwise**2).mean((0, 1))).ravel()  # channel 0 first, its two filters, then channel 1
    expected = np.sqrt(((pointwise[0, 0] * sizes[:, None]) ** 2).mean(0))
    np.testing.assert_allclose(scores(two_layers, "l2")["separable"], expected, rtol=1e-6)


def test_scores_of_concatenated_layers_go_to_their_own_channels(keras, randomize, scores):
    image = keras.Input((4, 4, 2))
    parts = [keras.layers.Conv2D(n, 1, name=name, use_bias=False)(image) for name, n in (("a", 2), ("b", 3))]
    x = keras.layers.BatchNormalization(name="norm")(keras.layers.Concatenate()(parts))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    model.get_layer("norm").gamma.assign([1.0, 2.0, 3.0, 4.0, 5.0])
    found = scores(randomize(model), "bn_scale")
    gamma = model.get_layer("norm").gamma.numpy()
    np.testing.assert_array_equal(found["a"], gamma[:2])
    np.testing.assert_array_equal(found["b"], gamma[2:])
