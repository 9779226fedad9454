import numpy as np
import pytest

from pipeline.errors import ModelError, PreconditionError
from stages.prune.analysis.groups import channel_groups
from stages.prune.config import PruneConfig, RankingConfig
from stages.prune.ranking.criteria.activations import zero_shares
from stages.prune.ranking.reduction import normalised
from stages.prune.ranking.scoring import group_scores
from stages.prune.samples import samples_of


@pytest.fixture
def two_layers(keras):
    """Build two convolutions of other filter sizes that are added (one group, named by b), and a separable one."""
    image = keras.Input((6, 6, 2))
    a = keras.layers.Conv2D(3, 3, padding="same", name="a")(image)
    b = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(3, 1, name="b")(image))
    x = keras.layers.SeparableConv2D(4, 3, depth_multiplier=2, name="separable")(keras.layers.Add()([a, b]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(2, name="head")(x))


def scores(model, criterion, seed=0, data=None, **settings):
    graph = channel_groups(model)
    config = RankingConfig(criterion=criterion, **settings)
    samples = None if data is None else samples_of(model, data)
    found = group_scores(model, graph.prunable, config, seed, samples)
    return {group.name: values for group, values in zip(graph.prunable, found, strict=True)}


@pytest.mark.parametrize(
    ("criterion", "norm"), [("l1", lambda w: np.abs(w).mean()), ("l2", lambda w: np.sqrt((w**2).mean()))]
)
def test_filters_by_their_mean_size_over_the_layers_that_make_a_channel(two_layers, randomise, criterion, norm):
    randomise(two_layers)
    a, b = (two_layers.get_layer(name).get_weights()[0] for name in "ab")
    expected = [(norm(a[..., i]) + norm(b[..., i])) / 2 for i in range(3)]
    np.testing.assert_allclose(scores(two_layers, criterion)["b"], expected, rtol=1e-6)


def test_separable_filters_are_pointwise_times_depthwise(two_layers, randomise):
    depthwise, pointwise, _ = randomise(two_layers).get_layer("separable").get_weights()
    sizes = np.sqrt((depthwise**2).mean((0, 1))).ravel()  # channel 0 first, its two filters, then channel 1
    expected = np.sqrt(((pointwise[0, 0] * sizes[:, None]) ** 2).mean(0))
    np.testing.assert_allclose(scores(two_layers, "l2")["separable"], expected, rtol=1e-6)


def test_scales_of_batch_normalisation_or_nothing(two_layers, randomise):
    layer = randomise(two_layers).get_layer("norm")
    layer.gamma.assign([0.5, -2.0, 0.0])
    found = scores(two_layers, "bn_scale")
    np.testing.assert_array_equal(found["b"], [0.5, 2.0, 0.0])
    assert found["separable"] is None


def test_scores_of_concatenated_layers_go_to_their_own_channels(keras, randomise):
    image = keras.Input((4, 4, 2))
    parts = [keras.layers.Conv2D(n, 1, name=name, use_bias=False)(image) for name, n in (("a", 2), ("b", 3))]
    x = keras.layers.BatchNormalization(name="norm")(keras.layers.Concatenate()(parts))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    model.get_layer("norm").gamma.assign([1.0, 2.0, 3.0, 4.0, 5.0])
    found = scores(randomise(model), "bn_scale")
    gamma = model.get_layer("norm").gamma.numpy()
    np.testing.assert_array_equal(found["a"], gamma[:2])
    np.testing.assert_array_equal(found["b"], gamma[2:])


def test_random_scores_follow_from_the_seed(two_layers):
    first, again, other = (scores(two_layers, "random", seed)["separable"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_lamp_is_one_for_the_biggest_filter_and_falls_with_the_rest(keras, randomise):
    vector = keras.Input((2,))
    x = keras.layers.Dense(3, name="hidden", use_bias=False)(vector)
    model = randomise(keras.Model(vector, keras.layers.Dense(2)(x)))
    model.get_layer("hidden").kernel.assign([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
    np.testing.assert_allclose(scores(model, "lamp")["hidden"], [1 / 14, 4 / 13, 1.0])


def test_fpgm_ranks_what_lies_between_the_others_last(keras, randomise):
    vector = keras.Input((1,))
    model = randomise(keras.Model(vector, keras.layers.Dense(2)(keras.layers.Dense(3, name="hidden")(vector))))
    model.get_layer("hidden").kernel.assign([[0.0, 1.0, 5.0]])
    np.testing.assert_allclose(scores(model, "fpgm")["hidden"], [3.0, 2.5, 4.5])


@pytest.mark.parametrize(
    ("how", "expected"),
    [("mean", [2.0, 3.0, 4.0]), ("max", [3.0, 4.0, 5.0]), ("sum", [4.0, 6.0, 8.0]), ("first", [3.0, 4.0, 5.0])],
)
def test_reductions_over_the_layers_that_make_a_channel(two_layers, how, expected):
    for name, values in (("a", [1.0, 2.0, 3.0]), ("b", [3.0, 4.0, 5.0])):
        kernel = two_layers.get_layer(name).kernel
        kernel.assign(np.ones(kernel.shape) * values)
    # b is the first: as in the model, layers are ordered by their depth.
    np.testing.assert_allclose(scores(two_layers, "l1", reduction=how)["b"], expected)


def test_normalisations_make_groups_comparable():
    values = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(normalised(values, "none"), values)
    np.testing.assert_allclose(normalised(values, "mean"), values / 2)
    np.testing.assert_allclose(normalised(values, "max"), values / 3)
    np.testing.assert_allclose(normalised(values, "standardised"), (values - 2) / values.std())
    for how in ("mean", "max", "standardised"):  # dead groups would divide by zero
        assert np.isfinite(normalised(np.zeros(3), how)).all()


def with_relus(keras):
    """Build a convolution with its own ReLU, one with it after batch normalization, one without any."""
    image = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(3, 3, activation="relu", name="own")(image)
    x = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(4, 1, name="later")(x))
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(5, 2, name="none")(x))
    return keras.Model(image, keras.layers.Dense(3, activation="softmax", name="head")(x))


def test_apoz_counts_zeros_after_the_activation_in_any_number_of_batches(keras, randomise):
    model = randomise(with_relus(keras))
    images = np.random.default_rng(0).standard_normal((7, 6, 6, 2)).astype(np.float32)
    reader = keras.Model(model.input, [model.get_layer(name).output for name in ("own", "relu")])
    own, later = (np.mean(out == 0, axis=(0, 1, 2)) for out in reader(images))
    for batch in (2, 7, 100):
        shares = zero_shares(model, ["own", "later", "none"], samples_of(model, images), batch=batch)
        np.testing.assert_allclose(shares["own"], own)
        np.testing.assert_allclose(shares["later"], later)
        np.testing.assert_array_equal(shares["none"], np.zeros(5))
    found = scores(model, "apoz", data=images)
    np.testing.assert_allclose(found["own"], 1 - own)
    np.testing.assert_allclose(found["later"], 1 - later)


def without_channel(model, group, index):
    """Return the model's weights with every weight by which the channel is read set to zero."""
    for slot in group.consumers:
        variable = slot.variable(model.get_layer(slot.layer))
        value = variable.numpy()
        value[(slice(None),) * slot.axis + (slot.channels == group.channels[index],)] = 0
        variable.assign(value)


def test_taylor_is_the_squared_change_of_the_loss_of_each_sample_by_a_small_gate(keras, randomise):
    model = randomise(with_relus(keras))
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((5, 6, 6, 2)).astype(np.float32), rng.integers(0, 3, 5)
    found = scores(model, "taylor", data=(images, labels))
    loss = keras.losses.SparseCategoricalCrossentropy(reduction="none")
    group = next(group for group in channel_groups(model).prunable if group.name == "later")
    weights, step = model.get_weights(), 1e-2
    before = loss(labels, model(images)).numpy()
    for index in range(group.channels.size):
        without_channel(model, group, index)
        gated = [w + step * (less - w) for w, less in zip(weights, model.get_weights(), strict=True)]
        model.set_weights(gated)
        slope = (loss(labels, model(images)).numpy() - before) / step
        model.set_weights(weights)
        assert found["later"][index] == pytest.approx(np.mean(slope**2), rel=0.1, abs=1e-7)


def with_heads(keras):
    """Build classes, several labels and numbers on one body."""
    image = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="body")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    kind = keras.layers.Dense(3, activation="softmax", name="kind")(x)
    return keras.Model(image, [kind, *(keras.layers.Dense(2, name=name)(x) for name in ("marks", "level"))])


TASKS = {"kind": "classes", "marks": "multilabel", "level": "regression"}


@pytest.mark.parametrize("labelled", [("marks",), ("level",), ("kind", "level"), ("kind", "marks", "level")])
def test_taylor_takes_the_loss_of_each_task_and_adds_those_of_labelled_outputs(keras, randomise, labelled):
    from pipeline.data import Preprocess, Split

    model, rng = randomise(with_heads(keras)), np.random.default_rng(0)
    images = rng.standard_normal((5, 6, 6, 2)).astype(np.float32)
    targets = {
        "kind": rng.integers(0, 3, 5),
        "marks": rng.integers(0, 2, (5, 2)).astype(np.float32),
        "level": rng.standard_normal((5, 2)).astype(np.float32),
    }
    y, tasks = ({name: source[name] for name in labelled} for source in (targets, TASKS))
    found = scores(model, "taylor", data=Split("train", "d", images, y, Preprocess(), tasks))["body"]
    losses = {
        "kind": keras.losses.SparseCategoricalCrossentropy(reduction="none"),
        "marks": keras.losses.BinaryCrossentropy(from_logits=True, reduction="none"),
        "level": keras.losses.MeanSquaredError(reduction="none"),
    }

    def loss():
        outputs = dict(zip(model.output_names, model(images), strict=True))
        return sum(losses[name](targets[name], outputs[name]).numpy() for name in labelled)

    group = next(group for group in channel_groups(model).prunable if group.name == "body")
    weights, step, before = model.get_weights(), 1e-2, loss()
    for index in range(group.channels.size):
        without_channel(model, group, index)
        model.set_weights([w + step * (less - w) for w, less in zip(weights, model.get_weights(), strict=True)])
        expected = np.mean(((loss() - before) / step) ** 2)
        model.set_weights(weights)
        assert found[index] == pytest.approx(expected, rel=0.1, abs=1e-6)


def test_taylor_tells_the_task_from_arrays_of_labels(keras, randomise):
    image = keras.Input((6, 6, 2))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, name="body")(image))
    model, rng = randomise(keras.Model(image, keras.layers.Dense(1, name="level")(x))), np.random.default_rng(0)
    images, numbers = rng.standard_normal((5, 6, 6, 2)).astype(np.float32), rng.standard_normal((5, 1))
    one, double = (scores(model, "taylor", data=(images, y))["body"] for y in (numbers, model(images).numpy()))
    assert (one > 1e-4).all()
    np.testing.assert_allclose(double, 0, atol=1e-9)  # targets that are met: no loss, no slope


def test_hessian_is_the_squared_change_of_the_logits_by_a_small_gate(keras, randomise):
    model = randomise(with_relus(keras))
    images = np.random.default_rng(0).standard_normal((64, 6, 6, 2)).astype(np.float32)
    found = scores(model, "hessian", data=images)["later"]
    head = model.get_layer("head")
    reader = keras.Model(model.input, head.input)
    group = next(group for group in channel_groups(model).prunable if group.name == "later")
    weights, step, expected = model.get_weights(), 1e-2, []

    def logits():
        return reader(images).numpy() @ head.kernel.numpy() + head.bias.numpy()

    before = logits()
    for index in range(group.channels.size):
        without_channel(model, group, index)
        model.set_weights([w + step * (less - w) for w, less in zip(weights, model.get_weights(), strict=True)])
        expected.append(np.mean(np.sum(((logits() - before) / step) ** 2, axis=1)))
        model.set_weights(weights)
    np.testing.assert_allclose(found, expected, rtol=0.3)  # random signs: 4 a sample, 64 samples
    assert (np.argsort(found) == np.argsort(expected)).all()


def test_data_is_asked_for_where_it_is_needed(two_layers):
    for criterion in ("apoz", "taylor", "hessian"):
        with pytest.raises(PreconditionError, match=f"{criterion} looks at data"):
            scores(two_layers, criterion)
    with pytest.raises(PreconditionError, match="taylor needs labels"):
        scores(two_layers, "taylor", data=np.zeros((2, 6, 6, 2), np.float32))


def test_scores_that_are_not_finite_are_told(two_layers, randomise):
    data = np.full((2, 6, 6, 2), np.inf, np.float32), np.zeros(2, np.int64)
    with pytest.raises(ModelError, match="not finite"):
        scores(randomise(two_layers), "taylor", data=data)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"criterion": "l2", "samples": 5}, "samples is for apoz, hessian and taylor"),
        ({"criterion": "lamp", "data_split": "train"}, "l?amp looks at no data"),
        ({"criterion": "taylor", "reduction": "max"}, "nothing to reduce"),
    ],
)
def test_settings_that_a_criterion_does_not_take(settings, message):
    with pytest.raises(ValueError, match=message):
        PruneConfig.model_validate(settings)
