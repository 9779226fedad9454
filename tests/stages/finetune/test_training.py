import numpy as np
import pytest

from pipeline.data import Preprocess, Split
from pipeline.errors import PostconditionError
from stages.finetune.batches import training_batches, validation_batches
from stages.finetune.checkpoints import Checkpoint, Checkpoints
from stages.finetune.config import FinetuneConfig
from stages.finetune.training import fine_tune
from stages.losses import gives_logits
from stages.tf_runtime import import_keras, tensorflow_action


def split(name, samples, seed):
    """Two classes that the mean brightness tells apart, with noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(samples) % 2
    x = rng.integers(0, 200, (samples, 6, 6, 1)) + y[:, None, None, None] * 50
    return Split(name, "sha256:" + "0" * 64, x.astype(np.uint8), y, Preprocess(scale=1 / 255))


TRAIN, VALIDATION = split("train", 70, 0), split("validation", 40, 1)


def small():
    layers = import_keras().layers
    return import_keras().Sequential(
        [
            layers.Input((6, 6, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(momentum=0.1),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(2, activation="softmax"),
        ]
    )


class KilledError(Exception):
    pass


def train(folder, config, kill_after=None):
    """Weights after training; with `kill_after`, it dies in that epoch (from 1), right before its end."""

    def progress(done, total, what, detail):
        if kill_after is not None and done > kill_after - 0.5 and done < kill_after:
            raise KilledError

    with tensorflow_action(3, 2):
        result = fine_tune(small(), config, TRAIN, VALIDATION, 3, Checkpoints(folder), progress, progress_interval_s=0)
        return result, result.model.get_weights()


@pytest.mark.parametrize(
    "config",
    [
        FinetuneConfig(epochs=5, batch=16, learning_rate=0.01),
        FinetuneConfig(epochs=5, batch=16, schedule="cosine", optimizer="sgd", learning_rate=0.05),
    ],
    ids=["plateau", "cosine"],
)
def test_a_training_killed_twice_ends_in_the_very_weights_of_one_that_was_not(tmp_path, config):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, expected = train(tmp_path / "a", config)
    for epoch in (2, 4):
        with pytest.raises(KilledError):
            train(tmp_path / "b", config, kill_after=epoch)
    resumed, weights = train(tmp_path / "b", config)
    assert resumed.resumed_from == 3
    assert whole.resumed_from == 0
    assert resumed.history == whole.history
    assert all(np.array_equal(a, b) for a, b in zip(expected, weights, strict=True))


def test_plateau_lowers_the_rate_and_early_stopping_stops_also_after_a_resume(tmp_path):
    config = FinetuneConfig(epochs=30, batch=16, learning_rate=1e-9, early_stopping=3, plateau={"patience": 0})
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, expected = train(tmp_path / "a", config)
    epochs = len(whole.history["loss"])
    assert epochs < 30
    assert whole.history["lr"][-1] < 1e-9
    with pytest.raises(KilledError):
        train(tmp_path / "b", config, kill_after=2)
    resumed, weights = train(tmp_path / "b", config)
    assert resumed.history == whole.history
    assert all(np.array_equal(a, b) for a, b in zip(expected, weights, strict=True))


def test_the_best_epoch_is_kept_and_its_loss_is_measured_again(tmp_path):
    result, _ = train(tmp_path, FinetuneConfig(epochs=4, batch=16, learning_rate=0.3))
    assert result.best_epoch == int(np.argmin(result.history["val_loss"]))
    assert result.validation_loss == pytest.approx(min(result.history["val_loss"]), rel=1e-5)


def test_training_learns(tmp_path):
    result, _ = train(tmp_path, FinetuneConfig(epochs=12, batch=16, learning_rate=0.01))
    assert max(result.history["val_accuracy"]) > 0.9


def test_a_loss_that_is_no_number_stops_with_epoch_and_step(tmp_path):
    with tensorflow_action(3, 2):
        model = small()
        weights = model.get_weights()
        weights[-1][:] = np.nan  # where no ReLU follows: on some CPUs that makes zero of NaN
        model.set_weights(weights)
        with pytest.raises(PostconditionError, match="epoch 1, step 1 of 5"):
            fine_tune(model, FinetuneConfig(batch=16), TRAIN, VALIDATION, 3)


def test_each_epoch_visits_every_sample_once_in_an_order_of_its_own():
    batches = list(training_batches(TRAIN, 16, seed=1, first_epoch=0, epochs=2))
    assert [len(labels) for _, labels in batches] == [16, 16, 16, 16, 6] * 2
    epochs = [np.concatenate([np.asarray(x) for x, _ in batches[i : i + 5]]) for i in (0, 5)]
    expected = TRAIN.inputs()
    assert not np.array_equal(epochs[0], epochs[1])
    for epoch in epochs:
        assert np.array_equal(np.sort(epoch.sum((1, 2, 3))), np.sort(expected.sum((1, 2, 3))))
    later = next(iter(training_batches(TRAIN, 16, seed=1, first_epoch=1, epochs=2)))
    assert np.array_equal(later[0], batches[5][0])


def test_validation_is_in_stored_order():
    labels = np.concatenate([np.asarray(y) for _, y in validation_batches(VALIDATION, 16)])
    assert np.array_equal(labels, VALIDATION.y)


@pytest.fixture
def checkpoints(tmp_path):
    kept = Checkpoints(tmp_path)
    for epoch in (1, 2, 3):
        kept.save(Checkpoint(epoch, epoch, {"lr": 0.1 * epoch}, {"weight-0": np.full(3, epoch, np.float32)}))
    return kept


def test_the_last_two_checkpoints_are_kept_and_the_newest_is_read(checkpoints, tmp_path):
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["epoch-00002.json", "epoch-00002.npz", "epoch-00003.json", "epoch-00003.npz"]
    latest = checkpoints.latest()
    assert (latest.epoch, latest.state["lr"]) == (3, pytest.approx(0.3))
    assert latest.arrays["weight-0"].tolist() == [3, 3, 3]


@pytest.mark.parametrize("name", ["epoch-00003.json", "epoch-00003.npz"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "empty"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(checkpoints, tmp_path, name, damage):
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    match damage:
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "flip":
            data[len(data) // 2] ^= 0xFF
            path.write_bytes(data)
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
    latest = checkpoints.latest()
    assert latest.epoch == 2 or (name.endswith("json") and damage == "flip" and latest.state["lr"] != 0.3)
    for left in tmp_path.iterdir():
        left.write_bytes(b"")
    assert checkpoints.latest() is None


@pytest.mark.parametrize(
    ("units", "closing", "logits"),
    [(3, "softmax", False), (3, None, True), (1, "sigmoid", False), (1, None, True)],
)
def test_logits_are_told_from_probabilities_wherever_the_activation_stands(units, closing, logits):
    layers = import_keras().layers
    inner = import_keras().Sequential([layers.Input((5,)), layers.Dense(units, closing, name="inner_head")])
    inputs = import_keras().Input((5,))
    assert gives_logits(import_keras().Model(inputs, inner(inputs))) == logits
