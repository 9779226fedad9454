import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from pipeline import run
from pipeline.errors import ModelError, RecipeError
from pipeline.planning.plan import make_plan
from pipeline.recipe.recipe import Recipe
from pipeline.store import Store
from stages.commands.init import command
from stages.keras.tensorflow import import_keras

APP = typer.Typer()
APP.command()(command)


def put_data(folder, samples=60):
    rng = np.random.default_rng(0)
    y = np.arange(samples) % 3
    x = (80 * y[:, None, None, None] + rng.integers(0, 40, (samples, 12, 12, 1))).astype(np.uint8)
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=x[:30], y_test=y[:30])


@pytest.mark.parametrize("members", [("x_train", "x_test"), ("x_train",)])
def test_data_without_labels_gives_a_recipe_that_asks_for_none(tmp_path, members, invoke, saved, unlabelled):
    model, recipe = saved(tmp_path / "m.keras"), tmp_path / "recipe.yaml"
    told = invoke(model, "-o", recipe, "--data", unlabelled(tmp_path, *members))
    assert "fill in" not in told
    text = recipe.read_text()
    assert 'path: "my data.npz"' in text
    assert ("test: test" in text) is ("x_test" in members)
    loaded = Recipe.load(recipe, ("stages.finetune.epochs=1", "stages.benchmark.rounds=2"))
    assert (loaded.data.unlabelled, loaded.control) == (True, False)
    assert "accuracy" not in text.partition("stages:")[2]
    make_plan(loaded, Store(tmp_path / "store"))
    if "x_test" not in members:
        return
    metrics = run(loaded, tmp_path / "store", until="verify").metrics
    assert metrics["tflite/float32.max_abs_diff"] < 1e-4
    assert metrics["finetune.params"] < metrics["source.params"]
    assert not [name for name in metrics if "accuracy" in name]


def test_a_network_without_a_row_a_sample_is_compared_on_data_too(tmp_path, invoke, unlabelled):
    keras = import_keras()
    image = keras.Input((12, 12, 1))
    inner = keras.layers.Conv2D(4, 3, activation="relu")(image)
    keras.Model(image, keras.layers.Conv2D(2, 3)(inner)).save(tmp_path / "m.keras")
    recipe = tmp_path / "recipe.yaml"
    invoke(tmp_path / "m.keras", "-o", recipe, "--data", unlabelled(tmp_path, "x_train", "y_train", "x_test"))
    loaded = Recipe.load(recipe, ("stages.finetune.epochs=1",))
    assert loaded.data.unlabelled
    assert "its labels are not looked at" in recipe.read_text()
    make_plan(loaded, Store(tmp_path / "store"))


@pytest.mark.slow
def test_the_recipe_runs_as_soon_as_the_data_is_there(tmp_path, invoke, saved):
    (tmp_path / "models").mkdir()
    model, recipe = saved(tmp_path / "models" / "a model.keras"), tmp_path / "recipe.yaml"
    told = invoke(model, "-o", recipe).splitlines()
    assert told[0].startswith("small · 2.6 k params · ")
    assert "input       image 12×12×1 float32" in told
    assert "task        classes: 3 outputs that add up to 1" in told
    assert f"  secateur plan {recipe}   says what would run" in told
    text = recipe.read_text()
    assert 'model: "models/a model.keras"' in text
    assert "x_train, x_test (N, 12, 12, 1) and y_train, y_test (N,) from 0 to 2" in text
    number = int(next(line for line in told if "fill in" in line).rpartition(":")[2])
    assert text.splitlines()[number - 1] == "  path: data.npz"
    assert max(map(len, text.splitlines())) <= 100
    assert "  # leaves 60% of the MACs: 88.2 k → about 52.9 k" in text.splitlines()
    assert any(line.startswith("prune       leaves 60% of the MACs: 88.2 k → about 52.9 k (2 of ") for line in told)
    put_data(tmp_path)
    loaded = Recipe.load(recipe)
    plan = make_plan(loaded, Store(tmp_path / "store"))
    assert {"prune", "finetune", "control", "verify:onnx/int8", "benchmark:tflite/int8@cpu"} <= {
        action.id for action in plan.actions
    }
    manifest = run(loaded, store=tmp_path / "store", until="export")
    statuses = {entry.id: entry.status for entry in manifest.stages}
    assert statuses["export:onnx/int8"] == "ran"
    assert manifest.metrics["prune.macs_ratio"] == pytest.approx(0.6, abs=0.05)


def test_nothing_is_overwritten_or_left_half_written(tmp_path, invoke, saved):
    model, recipe = saved(tmp_path / "m.keras"), tmp_path / "recipe.yaml"
    recipe.write_text("mine")
    runner = CliRunner()
    with pytest.raises(RecipeError, match="there already"):
        runner.invoke(APP, [str(model), "-o", str(recipe)], catch_exceptions=False)
    assert recipe.read_text() == "mine"
    invoke(model, "-o", recipe, "--force")
    assert recipe.read_text() != "mine"
    with pytest.raises(RecipeError, match="can't be written there"):
        runner.invoke(APP, [str(model), "-o", str(tmp_path / "no" / "r.yaml")], catch_exceptions=False)
    (tmp_path / "cut.keras").write_bytes(model.read_bytes()[:300])
    with pytest.raises(ModelError):
        runner.invoke(APP, [str(tmp_path / "cut.keras"), "-o", str(tmp_path / "cut.yaml")], catch_exceptions=False)
    with pytest.raises(RecipeError, match="not there") as error:
        runner.invoke(APP, [str(tmp_path / "none.keras"), "-o", str(tmp_path / "cut.yaml")], catch_exceptions=False)
    assert error.value.exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.keras", "m.keras", "recipe.yaml"]
