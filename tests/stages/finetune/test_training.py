import os
import signal
from dataclasses import fields

import numpy as np
import pytest

from pipeline.errors import DataError, PostconditionError, PreconditionError
from pipeline.system import interruption
from stages.finetune.checkpoints import Checkpoints
from stages.finetune.config import Augment, Clip, Distill, Features, FinetuneConfig, Regularize
from stages.finetune.training import fine_tune
from stages.keras.tensorflow import tensorflow_action

AUGMENT = Augment(flip="both", crop=1, shift=0.2)
# All with dropout: the network has a layer of it.
CONFIGS = {
    "plateau": FinetuneConfig(epochs=5, batch=16, learning_rate=0.01),
    "cosine": FinetuneConfig(epochs=5, batch=16, schedule="cosine", optimizer="sgd", learning_rate=0.05, warmup=1),
    "augmented": FinetuneConfig(
        epochs=5,
        batch=16,
        learning_rate=0.01,
        augment=AUGMENT,
        mixup=0.3,
        label_smoothing=0.1,
        class_weights="balanced",
    ),
    "distilled": FinetuneConfig(
        epochs=5, batch=16, optimizer="adamw", clip=Clip(norm=1.0), distill=Distill(features=Features(layers=("conv",)))
    ),
    "shrunk": FinetuneConfig(
        epochs=5, batch=16, schedule="cosine", learning_rate=0.01, regularize=Regularize(groups=2.0), distill=Distill()
    ),
    "frozen": FinetuneConfig(epochs=5, batch=16, freeze=("conv",), freeze_batch_norm=True, schedule="exponential"),
}


class KilledError(Exception):
    pass


@pytest.fixture
def train(network, pair, tmp_path):
    """Train with checkpoints in a folder of that name; with `kill_after` it dies late in that epoch (from 1)."""

    def run(name, config, kill_after=None, splits=None, before=lambda model: None, heard=None):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)

        def progress(done, total, what, detail):
            if heard is not None:
                heard(done, total, what, detail)
            if kill_after is not None and kill_after - 0.5 < done < kill_after:
                raise KilledError

        with tensorflow_action(3, 2):
            teacher, model = (network(filters=6) if config.distill else None), network()
            before(model)
            return fine_tune(
                model,
                config,
                *(splits or pair()),
                3,
                Checkpoints(folder),
                progress,
                teacher=teacher,
                progress_interval_s=0,
            )

    return run


def equal(one, other):
    """Return whether two trainings ended in the same bits."""
    assert one.history == other.history
    weights = zip(one.model.get_weights(), other.model.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in weights)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_training_killed_twice_ends_in_the_very_weights_of_one_that_was_not(train, name):
    config = CONFIGS[name]
    whole = train("whole", config)
    for epoch in (2, 4):
        with pytest.raises(KilledError):
            train("killed", config, kill_after=epoch)
    resumed = train("killed", config)
    assert (whole.resumed_from, resumed.resumed_from) == (0, 3)
    assert equal(resumed, whole)


def test_with_each_checkpoint_damaged_in_turn_it_ends_in_the_same_weights(train, tmp_path):
    config = FinetuneConfig(epochs=5, batch=16, learning_rate=0.03, augment=AUGMENT)
    whole = train("whole", config)
    with pytest.raises(KilledError):
        train("killed", config, kill_after=5)
    kept = {path.name: path.read_bytes() for path in (tmp_path / "killed").iterdir()}
    assert len(kept) >= 2
    for name in kept:
        folder = tmp_path / f"without-{name}"
        folder.mkdir()
        for other, data in kept.items():
            (folder / other).write_bytes(data[: len(data) // 2] if other == name else data)
        again = train(folder.name, config)
        assert again.resumed_from < 4 or name < max(kept)
        assert equal(again, whole)


def test_plateau_lowers_the_rate_and_early_stopping_stops_also_after_a_resume(train):
    config = FinetuneConfig(epochs=30, batch=16, learning_rate=1e-9, early_stopping=3, plateau={"patience": 0})
    whole = train("whole", config)
    assert len(whole.history["loss"]) < 30
    assert whole.history["lr"][-1] < 1e-9
    with pytest.raises(KilledError):
        train("killed", config, kill_after=2)
    assert equal(train("killed", config), whole)
    stopped = train("killed", config)  # killed after its last epoch, before its result was recorded
    assert stopped.resumed_from == len(whole.history["loss"])
    assert equal(stopped, whole)


def test_the_best_epoch_is_kept_and_its_loss_is_measured_again(train):
    result = train("a", FinetuneConfig(epochs=4, batch=16, learning_rate=0.03))
    assert result.best_epoch == int(np.argmin(result.history["val_loss"])) + 1
    assert result.validation_loss == pytest.approx(min(result.history["val_loss"]), rel=1e-5)
    assert result.start["val_loss"] > result.of_best("val_loss") == min(result.history["val_loss"])


GOOD = FinetuneConfig(epochs=12, batch=16, learning_rate=0.02)
HARMFUL = FinetuneConfig(epochs=3, batch=16, learning_rate=1.0, class_weights={1: 0.0})


@pytest.mark.parametrize("settings", [{}, {"distill": Distill()}, {"mixed_precision": True}], ids=str)
def test_a_training_that_harms_gives_back_what_it_was_given(train, settings):
    """Also after a kill, whose checkpoint has the weights of the last epoch, and not those of the start."""
    good, given = train("good", GOOD).model.get_weights(), []

    def begin(model):
        model.set_weights(good)
        given[:] = model.get_weights()

    config, heard = HARMFUL.model_copy(update=settings), []
    whole = train("whole", config, before=begin, heard=lambda *told: heard.append(told))
    assert (whole.best_epoch, whole.of_best("val_accuracy")) == (0, whole.start["val_accuracy"])
    assert whole.start["val_loss"] <= min(whole.history["val_loss"])
    assert len(whole.history["val_loss"]) == 3
    assert all(np.array_equal(a, b) for a, b in zip(given, whole.model.get_weights(), strict=True))
    assert whole.validation_loss == pytest.approx(whole.start["val_loss"], rel=1e-6)
    figures = f"val loss {whole.start['val_loss']:.3f} val acc {whole.start['val_accuracy']:.3f}"
    assert heard[0] == (0.0, 3, "epoch 0/3", figures)
    with pytest.raises(KilledError):
        train("killed", config, kill_after=3, before=begin)
    resumed = train("killed", config, before=begin)
    assert (resumed.resumed_from, resumed.best_epoch, resumed.start) == (2, 0, whole.start)
    assert equal(resumed, whole)


def test_measuring_the_start_changes_nothing_of_the_training(train, monkeypatch):
    config = FinetuneConfig(epochs=2, batch=16, learning_rate=0.01, augment=AUGMENT)
    measured = train("measured", config)
    monkeypatch.setattr("stages.finetune.training.first_that_counts", lambda *_: 1)
    assert equal(train("not", config), measured)


def test_a_start_without_a_finite_loss_is_not_kept(train):
    def spoil(model):
        model.layers[-1].bias.assign([np.inf, 0.0])

    with pytest.raises(PostconditionError, match="epoch 1, step 1 of 5"):
        train("a", FinetuneConfig(batch=16), before=spoil)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"augment": Augment(flip="both", shift=0.2), "mixup": 0.2, "label_smoothing": 0.1},
        {"strategy": "mirrored"},
        {"mixed_precision": True},
        {"mixed_precision": True, "strategy": "mirrored", "distill": Distill(weight=0.1)},
    ],
    ids=["plain", "augmented", "mirrored", "16 bits", "all"],
)
def test_training_learns(train, settings):
    result = train("a", FinetuneConfig(epochs=12, batch=16, learning_rate=0.02, **settings))
    assert max(result.history["val_accuracy"]) > 0.85
    assert {weight.dtype.name for weight in result.model.weights} == {"float32"}
    assert {layer.compute_dtype for layer in result.model.layers} == {"float32"}


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_other_targets_are_learned(network, pair, task):
    with tensorflow_action(3, 2):
        model = network(*{"multilabel": (3, "sigmoid"), "regression": (2, None)}[task])
        config = FinetuneConfig(epochs=12, batch=16, learning_rate=0.02, mixup=0.1, augment=Augment(flip="both"))
        history = fine_tune(model, config, *pair(task), 3).history
    metric, low = ("val_accuracy", 0.85) if task == "multilabel" else ("val_mae", None)
    assert max(history[metric]) > low if low else min(history[metric]) < 0.6 * history[metric][0]


def test_frozen_layers_stay_and_the_rest_learns(train):
    kept = []
    config = FinetuneConfig(epochs=2, batch=16, freeze=("conv",), freeze_batch_norm=True)
    result = train("a", config, before=lambda model: kept.extend(model.get_weights()))
    changed = [not np.array_equal(a, b) for a, b in zip(kept, result.model.get_weights(), strict=True)]
    assert changed == [False] * 6 + [True] * 2
    assert all(layer.trainable for layer in result.model.layers)


def test_a_class_that_weighs_more_is_told_more_often(train, pair):
    def share(**settings):
        result = train(str(settings), FinetuneConfig(epochs=6, batch=16, learning_rate=0.01, **settings))
        return result.model.predict(pair()[1].x, verbose=0).argmax(1).mean()

    assert share(class_weights={1: 20.0}) > share() > share(class_weights={1: 0.05})


def test_balanced_classes_weigh_as_if_there_were_equally_many_of_each(train, pair, samples):
    training, validation = pair()
    rare = np.flatnonzero((training.y == 0) | (np.arange(70) % 14 == 1))
    skewed = samples("train", training.x[rare], training.y[rare])
    config = FinetuneConfig(epochs=6, batch=16, learning_rate=0.01)
    equal_weights = config.model_copy(update={"class_weights": "balanced"})

    def begin(model):
        model.layers[-1].bias.assign([2.0, 0.0])  # so wrong that no training keeps its start

    plain = train("plain", config, splits=(skewed, validation), before=begin)
    balanced = train("balanced", equal_weights, splits=(skewed, validation), before=begin)
    assert min(plain.best_epoch, balanced.best_epoch) > 0
    found = [result.model.predict(validation.x, verbose=0).argmax(1).mean() for result in (plain, balanced)]
    assert found[1] > found[0]


def test_a_class_that_does_not_exist_can_have_no_weight(train):
    with pytest.raises(PreconditionError, match="no class 12: the model's 2 classes are 0 to 1"):
        train("a", FinetuneConfig(class_weights={12: 2.0}))


def test_a_loss_that_is_no_number_stops_with_epoch_and_step(train):
    def spoil(model):
        weights = model.get_weights()
        weights[-1][:] = np.nan  # where no ReLU follows: on some CPUs that turns NaN into zero
        model.set_weights(weights)

    with pytest.raises(PostconditionError, match="epoch 1, step 1 of 5"):
        train("a", FinetuneConfig(batch=16), before=spoil)


def of_kind(kind, split):
    """Return the same split, read in another way."""
    return kind(*(getattr(split, field.name) for field in fields(split)))


def test_fewer_samples_than_a_batch_are_one_step_an_epoch(train, pair):
    steps = []
    config = FinetuneConfig(epochs=2, batch=500)
    train("a", config, heard=lambda done, total, what, detail: steps.append((done, detail.split()[1])))
    assert steps[1:] == [(1.0, "1/1"), (2.0, "1/1")]


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"augment": Augment(flip="both")}, "finetune.augment"),
        ({"augment": Augment(crop=3)}, "finetune.augment.crop"),
    ],
)
def test_what_inputs_can_not_be_changed_by_is_refused(train, samples, settings, where):
    shape = (8, 3, 9, 1) if where.endswith("crop") else (8, 4)
    split = samples("train", np.ones(shape, np.float32), np.arange(8) % 2)
    with pytest.raises(PreconditionError) as caught:
        train("a", FinetuneConfig(**settings), splits=(split, split))
    assert caught.value.where == where


@pytest.fixture
def handlers(monkeypatch):
    """Install the command line's signal handlers, with nothing requested yet."""
    before = {number: signal.signal(number, interruption.request) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    interruption.forget()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_and_the_epoch_is_done_again(train, handlers, number):
    config = FinetuneConfig(epochs=4, batch=16, learning_rate=0.01)
    heard = []

    def interrupt(done, *_):
        if 2.3 < done < 2.5:
            os.kill(os.getpid(), number)
            heard.append(done)  # the step's own work goes on

    with pytest.raises(KeyboardInterrupt):
        train("stopped", config, heard=interrupt)
    interruption.forget()
    assert heard == [2.4]
    resumed = train("stopped", config)
    assert resumed.resumed_from == 2
    assert equal(resumed, train("whole", config))


def test_a_second_signal_stops_at_once(train, handlers):
    heard = []

    def interrupt(done, *_):
        os.kill(os.getpid(), signal.SIGINT)
        heard.append("went on")
        os.kill(os.getpid(), signal.SIGINT)
        heard.append("went on still")

    with pytest.raises(KeyboardInterrupt):
        train("a", FinetuneConfig(epochs=4, batch=16), heard=interrupt)
    assert heard == ["went on"]


@pytest.mark.parametrize("which", ["train", "validation"])
def test_an_error_of_the_data_comes_out_as_it_is(train, pair, which):
    training, validation = pair()

    class Broken(type(training)):
        def _read(self, key):
            if isinstance(key, slice) or len(key) > 1:
                raise DataError("an image does not decode", where="cat.png")
            return super()._read(key)

    splits = {"train": training, "validation": validation}
    splits[which] = of_kind(Broken, splits[which])
    with pytest.raises(DataError, match="does not decode") as caught:
        train("a", FinetuneConfig(epochs=1, batch=16), splits=splits.values())
    assert caught.value.where == "cat.png"
