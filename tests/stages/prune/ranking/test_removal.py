import numpy as np
import pytest

from stages.keras.channels.groups import channel_groups
from stages.prune.ranking import readers, removal
from stages.prune.ranking.criterion import Question
from stages.prune.ranking.removal import removal_losses_of
from stages.samples.batches import unheard
from stages.samples.model_samples import samples_of


def losses_of(model, data, heard=unheard):
    groups = channel_groups(model).prunable
    found = removal_losses_of(Question(model, groups, 0, samples_of(model, data), heard))
    return {group.name: losses for group, losses in zip(groups, found, strict=True)}


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((20, 6, 6, 2)).astype(np.float32)


def test_a_linear_network_loses_what_the_least_squares_of_its_last_layer_says(keras, randomize, images):
    """Of a dense layer that makes the outputs, the loss is half the squared error, whatever else there is."""
    image = keras.Input((6, 6, 2))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(5, 3, activation="relu", name="body")(image))
    model = randomize(keras.Model(image, keras.layers.Dense(3, name="head")(x)))
    losses = losses_of(model, images)["body"]
    seen = keras.Model(image, x)(images).numpy().astype(np.float64)
    seen -= seen.mean(axis=0)
    seen = np.vstack([seen, np.sqrt(removal.RIDGE * seen.var(axis=0).mean() * len(seen)) * np.eye(5)])
    kernel, order = model.get_layer("head").kernel.numpy().astype(np.float64), np.argsort(losses)
    for count in range(1, 6):
        stay = order[count:]
        others = np.linalg.lstsq(seen[:, stay], seen @ kernel, rcond=None)[0]
        error = 0.5 * np.square(seen[:, stay] @ others - seen @ kernel).sum() / len(images)
        assert losses[order[:count]].sum() == pytest.approx(error, rel=1e-4)


def test_each_group_is_ranked_by_all_that_reads_it(branches, images):
    losses = losses_of(branches, images)
    assert {name: found.size for name, found in losses.items()} == {"a": 5, "b": 4, "of_both": 6, "flat": 7}
    assert all((np.diff(np.sort(found)) > 0).all() and found.min() > 0 for found in losses.values())


def test_less_memory_takes_more_passes_and_gives_the_same(branches, images, monkeypatch):
    heard = []
    whole = losses_of(branches, images)
    monkeypatch.setattr(removal, "PASS_BYTES", 1)
    passes = losses_of(branches, images, lambda *of: heard.append(of))
    for name, losses in whole.items():
        np.testing.assert_array_equal(losses, passes[name])
    assert len(heard) == 4 * 3  # groups times batches
    assert heard[-1] == (20, 20)
    assert heard == sorted(heard)


def test_a_reader_seen_in_pieces_gives_about_the_same_order(branches, images, monkeypatch):
    whole = losses_of(branches, images)
    monkeypatch.setattr(readers, "PIECE", 60)
    pieces = losses_of(branches, images)
    for name, losses in whole.items():
        ranks = [np.argsort(np.argsort(found)) for found in (losses, pieces[name])]
        assert np.corrcoef(*ranks)[0, 1] > 0.5, name
        assert pieces[name].sum() >= losses.sum() * 0.999  # fewer others to take over
    assert not np.array_equal(whole["a"], pieces["a"])


def test_a_dead_channel_goes_first_and_one_that_nobody_can_replace_last(branches, images):
    layer = branches.get_layer("a")
    kernel, bias = layer.kernel.numpy(), layer.bias.numpy()
    kernel[..., 3], bias[3] = 0, 1.0  # constant
    layer.set_weights([kernel, bias])
    reader = branches.get_layer("of_both")
    kernel = reader.kernel.numpy()
    kernel[:, :, 1] *= 20
    reader.kernel.assign(kernel)
    losses = losses_of(branches, images)["a"]
    assert np.argmin(losses) == 3
    assert np.argmax(losses) == 1
    assert losses[3] < 0.2 * np.sort(losses)[1]


def test_channels_that_only_an_unknown_kind_of_layer_reads_are_not_ranked(keras, randomize, images):
    image = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, name="body")(image)
    x = keras.layers.LSTM(3, name="reader")(keras.layers.Reshape((16, 4))(x))
    model = randomize(keras.Model(image, keras.layers.Dense(2, name="head")(x)))
    losses = losses_of(model, images)
    assert losses["body"] is None
    assert losses["reader"].size == 3
