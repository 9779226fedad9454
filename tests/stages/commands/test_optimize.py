from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.samples import Preprocess
from pipeline.errors import RecipeError, SecateurError
from pipeline.recipe.recipe import Recipe
from stages.commands.optimize import command, exported_for, tells_what_is_faster, write_search
from stages.commands.starting.first_recipe import Wanted
from stages.devices.target import find_target
from stages.finetune.config import Augment
from stages.keras.tensorflow import import_keras
from stages.search.goal import goal_of
from stages.search.levels import levels_of

GOAL = "{constraints: {accuracy_drop: 0.02}, budget: {trials: 5, minutes: 1}}"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 1))
    made = layers.Conv2D(16, 3, activation="relu")(image)
    made = layers.Conv2D(16, 3, activation="relu")(made)
    folder = tmp_path_factory.mktemp("optimize")
    keras.Model(image, layers.Dense(3, activation="softmax")(layers.Flatten()(made))).save(folder / "m.keras")
    return folder / "m.keras"


def test_without_labels_the_source_is_the_measure_and_the_recipe_is_ready(model, tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "d.npz",
        **{f"x_{split}": rng.normal(size=(n, 8, 8, 1)).astype("f4") for split, n in (("train", 90), ("test", 40))},
    )
    recipe = Recipe.load(
        write_search(
            model, tmp_path / "d.npz", tmp_path / "front" / "r.yaml", Wanted("cpu", ("tflite",), True, True, GOAL)
        )
    )
    assert "accuracy is agreement with the source" in capsys.readouterr().err
    labelled = np.load(tmp_path / "front" / "labelled-by-source.npz")
    assert labelled["y_train"].shape == (90,)
    assert recipe.search is not None
    goal = goal_of(recipe, recipe.search)
    assert (goal.cost.name, goal.target, goal.max_drop) == ("latency_p50_ms", "cpu", 0.02)
    assert levels_of(recipe).trains
    (schemes,) = [step.config.variants for step in recipe.steps if step.stage == "quantize"]
    assert [
        (name, how.scheme, how.faster_on, how.calibration, how.bias_correction) for name, how in schemes.items()
    ] == [
        ("float32", "float32", None, None, None),
        ("int8", "int8", None, "auto", True),
        ("mixed", "int8", "cpu", "auto", True),
    ]
    (training,) = [step.config for step in recipe.steps if step.stage == "finetune"]
    assert (training.epochs, training.early_stopping, training.mixup, training.distill.weight) == (40, None, 0.4, 1.0)
    assert recipe.data is not None
    assert (recipe.data.validation.fraction, recipe.data.calibration.take) == (0.2, 1024)  # of 90


@pytest.fixture
def bright(tmp_path):
    """Save a network of 16×16 images that tells above a level from below it, and return the recipe of a search."""

    def started(level, images, steepness=1.0, **labels):
        keras = import_keras()
        layers = keras.layers
        image = keras.Input((16, 16, 1))
        made = layers.Dense(2)(layers.GlobalAveragePooling2D()(layers.Conv2D(8, 1)(image)))
        model = keras.Model(image, made)
        slope = steepness * np.repeat([[-1.0, 1.0]], 8, 0)
        model.set_weights([np.ones((1, 1, 1, 8)), np.zeros(8), slope, 8 * level * np.array([1.0, -1.0])])
        model.save(tmp_path / "m.keras")
        np.savez(tmp_path / "d.npz", x_train=np.broadcast_to(images, (120, 16, 16, 1)), **labels)
        wanted = Wanted("cpu", ("onnx",), search=GOAL)
        recipe = Recipe.load(write_search(tmp_path / "m.keras", tmp_path / "d.npz", tmp_path / "r.yaml", wanted))
        (training,) = [step.config for step in recipe.steps if step.stage == "finetune"]
        return recipe, training

    return started


LABELS = np.arange(120) % 2
LEVELS = (0.25 + 0.5 * LABELS[:, None, None, None]).astype("f4")


def test_changes_that_the_source_does_not_mind_are_trained_with(bright):
    _, training = bright(0.5, LEVELS, y_train=LABELS)
    assert training.augment == Augment(flip="horizontal", shift=0.1)
    assert (training.mixup, training.learning_rate, training.early_stopping) == (None, 0.001, None)


def test_a_source_that_is_no_better_than_chance_is_told_and_tells_nothing_of_changes(bright, capsys):
    _, training = bright(0.5, LEVELS, steepness=0.0, y_train=LABELS)
    assert "! preprocess (check it): no better than chance" in capsys.readouterr().err
    assert (training.augment, training.mixup) == (Augment(), 0.4)


def test_without_labels_pixels_stay_pixels_where_the_source_tells_them_apart_only_so(bright, tmp_path):
    recipe, training = bright(128.0, (255 * LEVELS).astype(np.uint8))
    assert recipe.data.preprocess == Preprocess()
    assert (
        "CHECK: no preprocess, the source takes 50.0% of samples for one class so, and 100.0% as was guessed"
        in (tmp_path / "r.yaml").read_text()
    )
    assert np.array_equal(np.load(tmp_path / "labelled-by-source.npz")["y_train"], LABELS)
    assert training.augment == Augment(flip="horizontal", shift=0.1)


def test_bad_data_leave_no_folder(model, tmp_path):
    np.savez(tmp_path / "d.npz", x_train=np.zeros((40, 9, 9, 1), "f4"), y_train=np.arange(40) % 3)
    with pytest.raises(SecateurError):
        write_search(
            model, tmp_path / "d.npz", tmp_path / "front" / "r.yaml", Wanted("cpu", ("onnx",), False, search=GOAL)
        )
    assert not (tmp_path / "front").exists()


def test_training_can_be_left_out(model, tmp_path):
    np.savez(tmp_path / "d.npz", x_train=np.zeros((40, 8, 8, 1), "f4"), y_train=np.arange(40) % 3)
    recipe = Recipe.load(
        write_search(model, tmp_path / "d.npz", tmp_path / "r.yaml", Wanted("cpu", ("onnx",), False, search=GOAL))
    )
    assert not levels_of(recipe).trains


def test_a_target_gets_the_formats_that_it_takes():
    assert exported_for(find_target("cpu")) == ("tflite", "onnx")
    assert exported_for(find_target("ethos-u55-128")) == ("tflite",)


def test_layers_are_mixed_where_it_can_be_measured_which_are_faster():
    told = {name: tells_what_is_faster(find_target(name)) for name in ("cpu", "cortex-a72", "ethos-u55-128", "tflm")}
    assert told == {"cpu": True, "cortex-a72": True, "ethos-u55-128": False, "tflm": False}


def test_data_are_needed(model):
    with pytest.raises(RecipeError, match="none is named"):
        command(model)


def test_a_file_is_no_place_for_a_front(model, tmp_path):
    with pytest.raises(RecipeError, match="can't be written there"):
        command(model, data=model, output=model)


def test_a_cluster_that_is_none_leaves_no_folder(model, tmp_path, monkeypatch):
    monkeypatch.setenv("SECATEUR_STORE", str(tmp_path / "store"))
    np.savez(tmp_path / "d.npz", x_train=np.zeros((40, 8, 8, 1), "f4"), y_train=np.arange(40) % 3)
    with pytest.raises(RecipeError):
        command(model, data=tmp_path / "d.npz", output=tmp_path / "front", cluster="here")
    assert not (tmp_path / "front").exists()
