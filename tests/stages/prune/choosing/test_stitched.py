import numpy as np
import pytest

from stages.keras.channels.groups import channel_groups
from stages.keras.normal_form import encode_model
from stages.prune.choosing.stitched import Stitched
from stages.prune.ranking import readers, removal
from stages.prune.ranking.criterion import Question
from stages.prune.surgery.equivalence import masked
from stages.samples.batches import unheard
from stages.samples.model_samples import samples_of

COUNT = 40


@pytest.fixture(autouse=True)
def all_positions(monkeypatch):
    monkeypatch.setattr(readers, "POSITIONS", 10_000)


@pytest.fixture
def stitch(tmp_path):
    """Return a function that stitches a model on random samples, and returns it with its graph and the samples."""

    def make(model):
        rng = np.random.default_rng(0)
        data = [rng.standard_normal((COUNT, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
        graph = channel_groups(model)
        question = Question(model, graph.prunable, 0, samples_of(model, data), unheard)
        return Stitched.of(question, tmp_path), graph, data if len(data) > 1 else data[0]

    return make


def without(graph, **gone):
    """Return which channels stay if these of each named group go."""
    keep = np.ones(graph.count, bool)
    for group in graph.groups:
        keep[group.channels[gone.get(group.name, [])]] = False
    return keep


def fitted(seen, missing, *, constant=True):
    """Predict `missing` (n, O) from what is still seen (n, U): least squares, with the ridge as extra rows."""
    seen, missing = seen.astype(np.float64), missing.astype(np.float64)
    middle, level = (seen.mean(axis=0), missing.mean(axis=0)) if constant else (0.0, 0.0)
    rows, targets = seen - middle, missing - level
    ridge = np.sqrt(removal.RIDGE * np.square(rows).mean(axis=0).mean() * len(rows)) * np.eye(rows.shape[1])
    zeros = np.zeros((len(ridge), targets.shape[1]))
    weights = np.linalg.lstsq(np.vstack([rows, ridge]), np.vstack([targets, zeros]), rcond=None)[0]
    return rows @ weights + level


@pytest.mark.parametrize("reader", [{}, {"use_bias": False, "activation": "tanh"}])
def test_a_reader_does_without_inputs_as_least_squares_says(keras, randomize, stitch, reader):
    vector = keras.Input((7,))
    x = keras.layers.Dense(6, activation="relu", name="a")(vector)
    model = randomize(keras.Model(vector, keras.layers.Dense(3, name="head", **reader)(x)))
    stitched, graph, data = stitch(model)
    stitched.keep(without(graph, a=[1, 4]))
    seen, head = keras.Model(vector, x)(data).numpy().astype(np.float64), model.get_layer("head")
    kernel, stay = head.kernel.numpy().astype(np.float64), np.isin(np.arange(6), [1, 4], invert=True)
    # The ridge pulls to the weights as they are: only what they lack is fitted.
    lacking = fitted(seen[:, stay], seen[:, ~stay] @ kernel[~stay], constant=head.use_bias)
    expected = seen[:, stay] @ kernel[stay] + lacking + (head.bias.numpy() if head.use_bias else 0)
    np.testing.assert_allclose(stitched.model(data).numpy(), np.asarray(head.activation(expected)), atol=1e-5)


def test_a_constant_goes_into_the_normalization_that_follows(keras, randomize, stitch):
    image = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(5, 3, activation="relu", name="a")(image)
    y = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(4, 1, use_bias=False, name="b")(x))
    model = randomize(keras.Model(image, keras.layers.Activation("tanh")(y)))
    stitched, graph, data = stitch(model)
    stitched.keep(without(graph, a=[0]))
    seen = keras.Model(image, x)(data).numpy().astype(np.float64).reshape(-1, 5)
    kernel, norm = model.get_layer("b").kernel.numpy().astype(np.float64)[0, 0], model.get_layer("norm")
    made = seen[:, 1:] @ kernel[1:] + fitted(seen[:, 1:], seen[:, :1] @ kernel[:1])
    expected = np.tanh(norm(made.reshape(-1, 4, 4, 4).astype(np.float32), training=False).numpy())
    np.testing.assert_allclose(stitched.model(data).numpy(), expected, atol=1e-4)
    np.testing.assert_array_equal(stitched.model.get_layer("norm").moving_mean.numpy(), norm.moving_mean.numpy())


GONE = {"a": [0, 3], "b": [2], "of_both": [1, 4, 5], "flat": [6]}


def test_what_goes_is_read_no_more_and_the_network_is_nearer_than_masked(branches, stitch):
    before = encode_model(branches)
    stitched, graph, data = stitch(branches)
    keep, own = without(graph, **GONE), branches(data).numpy()
    with masked(branches, graph, keep):
        without_fit = np.square(branches(data).numpy() - own).mean()
    stitched.keep(keep)
    made = stitched.model(data).numpy()
    assert np.square(made - own).mean() < 0.5 * without_fit
    for name, gone in GONE.items():
        for variable in stitched.model.get_layer(name).weights:
            value = variable.numpy()
            value[..., gone] = 1e3
            variable.assign(value)
    np.testing.assert_allclose(stitched.model(data).numpy(), made, atol=1e-5)
    assert encode_model(branches) == before


def test_channels_go_and_come_back_in_any_order(branches, stitch):
    stitched, graph, _ = stitch(branches)
    keeps = [without(graph, **dict(list(GONE.items())[:count])) for count in range(5)]
    found = {}
    for place in (0, 4, 1, 3, 2, 0, 2, 4):
        stitched.keep(keeps[place])
        weights = [value.copy() for value in stitched.model.get_weights()]
        for old, new in zip(found.setdefault(place, weights), weights, strict=True):
            np.testing.assert_array_equal(old, new)
    for old, new in zip(found[0], branches.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_reader_that_is_not_linear_is_masked(keras, randomize, stitch):
    sequence = keras.Input((8, 3))
    x = keras.layers.Conv1D(5, 3, activation="relu", name="a")(sequence)
    model = randomize(keras.Model(sequence, keras.layers.Dense(2, name="head")(keras.layers.GRU(4, name="gru")(x))))
    stitched, graph, data = stitch(model)
    keep = without(graph, a=[1, 2])
    stitched.keep(keep)
    with masked(model, graph, keep):
        np.testing.assert_allclose(stitched.model(data).numpy(), model(data).numpy(), atol=1e-6)
    stitched.keep(without(graph))
    np.testing.assert_array_equal(
        stitched.model.get_layer("gru").get_weights()[0], model.get_layer("gru").get_weights()[0]
    )


def test_readers_in_pieces_and_in_passes(branches, stitch, monkeypatch):
    monkeypatch.setattr(removal, "PASS_BYTES", 1)
    monkeypatch.setattr(readers, "PIECE", 60)
    stitched, graph, data = stitch(branches)
    keep, own = without(graph, **GONE), branches(data).numpy()
    with masked(branches, graph, keep):
        without_fit = np.square(branches(data).numpy() - own).mean()
    stitched.keep(keep)
    assert np.square(stitched.model(data).numpy() - own).mean() < without_fit


def test_what_overflows_on_the_way_is_an_error_that_is_not_finite(keras, randomize, stitch):
    """Covariances are kept as float32: a search counts such a network as the worst, and says nothing else of it."""
    vector = keras.Input((7,))
    x = keras.layers.Dense(6, activation="relu", name="a")(vector)
    model = randomize(keras.Model(vector, keras.layers.Dense(3, name="head")(x)))
    model.get_layer("a").kernel.assign(model.get_layer("a").kernel * 1e25)
    stitched, graph, data = stitch(model)
    stitched.keep(without(graph, a=[1, 4]))
    assert not np.isfinite(stitched.model(data).numpy()).all()
