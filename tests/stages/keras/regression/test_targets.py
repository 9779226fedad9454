from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import ModelError
from stages.keras.regression.running import WORTH_A_GRAPH, Network
from stages.keras.regression.targets import Positions, SourceLayer, Targets

IMAGES = np.random.default_rng(0).standard_normal((4, 3, 3, 2)).astype(np.float32)


def test_all_positions_of_a_small_map_and_some_of_a_larger_one():
    where = Positions(count=6, seed=3)
    assert where.of("conv", 0, 2, (2, 3)).tolist() == [[0, 1, 2, 3, 4, 5]] * 2
    assert where.of("dense", 0, 2, ()).tolist() == [[0], [0]]
    picks = where.of("conv", 0, 50, (4, 5))
    assert picks.shape == (50, 6)
    assert all(len(set(row)) == 6 and sorted(row) == list(row) for row in picks.tolist())
    assert set(picks.flat) == set(range(20))


def test_positions_follow_from_seed_call_and_batch():
    drawn = Positions(3, 1).of("conv", 0, 4, (9, 9))
    assert (Positions(3, 1).of("conv", 0, 4, (9, 9)) == drawn).all()
    for other in (Positions(3, 2).of("conv", 0, 4, (9, 9)), Positions(3, 1).of("conv/1", 0, 4, (9, 9))):
        assert (other != drawn).any()
    assert (Positions(3, 1).of("conv", 1, 4, (9, 9)) != drawn).any()


@pytest.fixture
def model(keras, randomize):
    """Build a shared convolution between others; one layer is named like an argument of numpy's."""
    layers, image = keras.layers, keras.Input((3, 3, 2))
    shared = layers.Conv2D(2, 2, padding="same", activation="relu", name="file")
    x = shared(layers.Conv2D(2, 1, activation="tanh", name="allow_pickle")(shared(image)))
    return randomize(keras.Model(image, layers.Dense(3, activation="softmax", name="a/b")(layers.Flatten()(x))))


def computed(model, folder, kept, images=IMAGES, batches=2):
    network, targets = Network.of(model), Targets(folder / "deep" / "er")
    layers = {layer.name: SourceLayer.of(layer, kept.get(layer.name)) for layer in model.layers if layer.weights}
    targets.compute(network, layers, batches, lambda batch: [images + batch], Positions(100, 0))
    return targets


@pytest.mark.parametrize("batches", [2, WORTH_A_GRAPH])
def test_outputs_are_those_before_the_activation_at_the_channels_left(model, keras, tmp_path, batches):
    targets = computed(model, tmp_path, {"file": np.array([1]), "a/b": np.array([0, 2])}, batches=batches)
    for name in ("file", "allow_pickle", "a/b"):
        model.get_layer(name).activation = keras.activations.linear
    shared, between = model.get_layer("file"), model.get_layer("allow_pickle")
    first = shared(IMAGES + 1)
    middle = between(np.maximum(first, 0))
    second = shared(np.tanh(middle))
    last = model.get_layer("a/b")(np.maximum(second, 0).reshape(4, -1))
    wanted = {"file": first[..., 1:], "allow_pickle": middle, "file/1": second[..., 1:]}
    wanted |= {"a/b": last.numpy()[:, [0, 2]]}
    for name, values in wanted.items():
        found = targets.of(name, 1)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, np.reshape(values, (-1, found.shape[1])), rtol=1e-4, atol=1e-6)


def test_a_layer_that_gives_nan_in_the_source_is_named(model, tmp_path):
    model.get_layer("allow_pickle").bias.assign([np.nan, 0])
    with pytest.raises(ModelError, match=r"NaN or infinite values in the source") as caught:
        computed(model, tmp_path, {})
    assert caught.value.where == "allow_pickle"


def test_a_layer_without_an_activation_gives_what_would_be_computed_from_its_inputs(keras, randomize):
    layers, where = keras.layers, Positions(5, 0)
    for layer, left in (
        (layers.Conv2D(4, 3, strides=2, padding="same", name="x"), [0, 3]),
        (layers.Conv2D(4, 3, groups=2, name="x"), [1, 2]),
        (layers.DepthwiseConv2D(3, depth_multiplier=2, name="x"), [2, 3, 6, 7]),
        (layers.SeparableConv2D(3, 3, dilation_rate=2, name="x"), [1]),
        (layers.Conv2DTranspose(3, 3, strides=2, name="x"), None),
        (layers.Dense(3, name="x"), [0, 2]),
    ):
        image = keras.Input((9, 8, 4))
        model = randomize(keras.Model(image, layer(image)))
        given = np.random.default_rng(1).standard_normal((6, 9, 8, 4)).astype(np.float32)
        direct = SourceLayer.of(model.get_layer("x"), None if left is None else np.array(left))
        assert direct.direct
        found = direct.outputs(model(given).numpy(), "x", 0, where)
        wanted = replace(direct, direct=False).outputs(given, "x", 0, where)
        assert found.shape == (30, layer.output_shape[-1] if left is None else len(left))
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_what_half_precision_gives_is_computed_anew(keras):
    image = keras.Input((3, 3, 2))
    half, whole = keras.layers.Conv2D(2, 1, dtype="mixed_bfloat16"), keras.layers.Conv2D(2, 1)
    keras.Model(image, [half(image), whole(image)])
    assert not SourceLayer.of(half, None).direct
    assert SourceLayer.of(whole, None).direct


@pytest.mark.parametrize("batches", [2, WORTH_A_GRAPH])
def test_outputs_of_layers_without_activations_are_taken_as_they_are(keras, randomize, tmp_path, batches):
    layers, image = keras.layers, keras.Input((3, 3, 2))
    first, second = layers.Conv2D(3, 2, name="first"), layers.DepthwiseConv2D(2, name="second")
    last = layers.Dense(2, name="last")
    made = last(layers.Flatten()(second(layers.ReLU()(first(image)))))
    targets = computed(randomize(keras.Model(image, made)), tmp_path, {"second": np.array([0, 2])}, batches=batches)
    x = first(IMAGES + 1)
    y = second(np.maximum(x, 0)).numpy()
    wanted = {"first": x, "second": y[..., [0, 2]], "last": last(y.reshape(4, -1))}
    for name, values in wanted.items():
        found = targets.of(name, 1)
        np.testing.assert_allclose(found, np.reshape(values, (-1, found.shape[1])), rtol=1e-4, atol=1e-5)
