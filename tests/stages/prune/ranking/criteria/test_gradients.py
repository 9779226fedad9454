import numpy as np
import pytest

from stages.keras.channels.groups import channel_groups


def without_channel(model, group, index):
    """Return the model's weights with every weight by which the channel is read set to zero."""
    for slot in group.consumers:
        variable = slot.variable(model.get_layer(slot.layer))
        value = variable.numpy()
        value[(slice(None),) * slot.axis + (slot.channels == group.channels[index],)] = 0
        variable.assign(value)


def test_taylor_is_the_squared_change_of_the_loss_of_each_sample_by_a_small_gate(keras, randomize, scores, with_relus):
    model = randomize(with_relus(keras))
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
def test_taylor_takes_the_loss_of_each_task_and_adds_those_of_labelled_outputs(keras, randomize, labelled, scores):
    from pipeline.data import Preprocess, Split

    model, rng = randomize(with_heads(keras)), np.random.default_rng(0)
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


def test_taylor_tells_the_task_from_arrays_of_labels(keras, randomize, scores):
    image = keras.Input((6, 6, 2))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, name="body")(image))
    model, rng = randomize(keras.Model(image, keras.layers.Dense(1, name="level")(x))), np.random.default_rng(0)
    images, numbers = rng.standard_normal((5, 6, 6, 2)).astype(np.float32), rng.standard_normal((5, 1))
    one, double = (scores(model, "taylor", data=(images, y))["body"] for y in (numbers, model(images).numpy()))
    assert (one > 1e-4).all()
    np.testing.assert_allclose(double, 0, atol=1e-9)  # targets that are met: no loss, no slope


def test_hessian_is_the_squared_change_of_the_logits_by_a_small_gate(keras, randomize, scores, with_relus):
    model = randomize(with_relus(keras))
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


def test_obs_ranks_by_what_stays_lost_after_the_others_took_over(keras, randomize, scores, with_relus):
    model = randomize(with_relus(keras))
    images = np.random.default_rng(0).standard_normal((32, 6, 6, 2)).astype(np.float32)
    own = model.get_layer("own")
    kernel, bias = own.get_weights()
    kernel[..., 2], bias[2] = 2 * kernel[..., 0], 2 * bias[0]
    own.set_weights([kernel, bias])
    reader = model.get_layer("later")
    weights = reader.kernel.numpy()
    weights[..., 1, :] *= 0.3
    reader.kernel.assign(weights)
    found = scores(model, "obs", data=images)
    # One of the twins goes first, because the other can replace it; `hessian` sees that both matter.
    assert np.argmin(found["own"]) in (0, 2)
    assert np.argmin(scores(model, "hessian", data=images)["own"]) == 1
    assert set(found) == {"own", "later", "none"}


def test_obs_takes_no_labels_and_gives_the_same_again(keras, randomize, scores, with_relus):
    model = randomize(with_relus(keras))
    images = np.random.default_rng(0).standard_normal((12, 6, 6, 2)).astype(np.float32)
    first, again = scores(model, "obs", data=images), scores(model, "obs", data=(images, np.zeros(12, np.int64)))
    assert [values.tobytes() for values in first.values()] == [values.tobytes() for values in again.values()]
