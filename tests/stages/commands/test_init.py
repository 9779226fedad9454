import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from pipeline import run
from pipeline.errors import DataError, ModelError, RecipeError
from pipeline.planning.plan import make_plan
from pipeline.recipe.recipe import Recipe
from pipeline.store import Store
from stages.commands.init import command
from stages.keras.tensorflow import import_keras, import_tfmot

APP = typer.Typer()
APP.command()(command)


def invoke(*arguments):
    result = CliRunner().invoke(APP, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def saved(path, outputs=3, activation="softmax", front=(), shape=(12, 12, 1), name="small"):
    """Save a small convolutional network with one output tensor as a file."""
    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(1)
    x = [
        *front,
        layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="stem"),
        layers.BatchNormalization(name="stem_bn"),
        layers.ReLU(),
        layers.Conv2D(16, 3, padding="same", name="second"),
        layers.GlobalAveragePooling2D(name="pool"),
        layers.Dropout(0.1),
        layers.Dense(outputs, activation=activation, name="head"),
    ]
    keras.Sequential([keras.Input(shape, name="image"), *x], name=name).save(path)
    return path


def put_data(folder, samples=60):
    rng = np.random.default_rng(0)
    y = np.arange(samples) % 3
    x = (80 * y[:, None, None, None] + rng.integers(0, 40, (samples, 12, 12, 1))).astype(np.uint8)
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=x[:30], y_test=y[:30])


def unlabelled(folder, *members, samples=40):
    x = np.random.default_rng(0).integers(0, 256, (samples, 12, 12, 1)).astype(np.uint8)
    np.savez(folder / "my data.npz", **dict.fromkeys(members, x))
    return folder / "my data.npz"


@pytest.mark.parametrize("members", [("x_train", "x_test"), ("x_train",)])
def test_data_without_labels_gives_a_recipe_that_asks_for_none(tmp_path, members):
    model, recipe = saved(tmp_path / "m.keras"), tmp_path / "recipe.yaml"
    told = invoke(model, "-o", recipe, "--data", unlabelled(tmp_path, *members))
    assert "fill in" not in told
    text = recipe.read_text()
    assert 'path: "my data.npz"' in text
    assert ("test: test" in text) is ("x_test" in members)
    loaded = Recipe.load(recipe, ("stages.finetune.epochs=1", "stages.prune.criterion=l2", "stages.benchmark.rounds=2"))
    assert (loaded.data.unlabelled, loaded.control) == (True, False)
    assert "accuracy" not in text.partition("stages:")[2]
    make_plan(loaded, Store(tmp_path / "store"))
    if "x_test" not in members:
        return
    metrics = run(loaded, tmp_path / "store", until="verify").metrics
    assert metrics["tflite/float32.max_abs_diff"] < 1e-4
    assert metrics["finetune.params"] < metrics["source.params"]
    assert not [name for name in metrics if "accuracy" in name]


@pytest.mark.parametrize(("factor", "prepared"), [(1 / 255, True), (1.0, False)])
def test_samples_that_are_no_pixels_are_not_scaled_as_pixels(tmp_path, factor, prepared):
    x = np.linspace(0, 255, 20 * 144).reshape(20, 12, 12, 1).astype(np.float32) * np.float32(factor)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=np.arange(20) % 3)
    invoke(saved(tmp_path / "m.keras"), "-o", tmp_path / "r.yaml", "--data", tmp_path / "d.npz")
    text = (tmp_path / "r.yaml").read_text()
    assert ("no preprocess, the file's samples go from 0 to 1" in text) is prepared
    assert (Recipe.load(tmp_path / "r.yaml").data.preprocess.scale == 1) is prepared
    assert "control: true" in text


def test_a_network_without_a_row_a_sample_is_compared_on_data_too(tmp_path):
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


@pytest.mark.parametrize(
    ("name", "members", "error", "words"),
    [
        ("no.npz", None, RecipeError, "the data can't be read: no such file"),
        ("folder", None, RecipeError, "the data can't be read: is a directory"),
        ("m.keras.txt", None, RecipeError, "no npz file"),
        ("my data.npz", ("images",), DataError, "holds no inputs x_train: it has images"),
        ("my data.npz", ("x_test",), DataError, "holds no inputs x_train: it has x_test"),
    ],
)
def test_data_that_a_recipe_can_not_begin_with_is_named(tmp_path, name, members, error, words):
    (tmp_path / "folder").mkdir()
    (tmp_path / "m.keras.txt").write_text("text")
    if members:
        unlabelled(tmp_path, *members)
    with pytest.raises(error, match=words):
        invoke(tmp_path / "none.keras", "-o", tmp_path / "r.yaml", "--data", tmp_path / name)


@pytest.mark.slow
def test_the_recipe_runs_as_soon_as_the_data_is_there(tmp_path):
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


@pytest.mark.parametrize(
    ("outputs", "activation", "task", "targets"),
    [
        (1, "sigmoid", "binary", "(N,) of 0 and 1"),
        (5, "sigmoid", "multilabel", "(N, 5) of 0 and 1"),
        (1, None, "regression", "(N,)"),
        (4, None, "classes", "(N,) from 0 to 3"),
    ],
)
def test_the_task_is_told_from_the_outputs(tmp_path, outputs, activation, task, targets):
    model, recipe = saved(tmp_path / "m.keras", outputs, activation), tmp_path / "r.yaml"
    document = json.loads(invoke(model, "-o", recipe, "--json"))
    assert document["schema_version"] == 1
    (output,) = document["guess"]["outputs"]
    assert (output["name"], output["task"], output["size"]) == ("head", task, outputs)
    assert document["fill_in"] == ["data.path"]
    assert recipe.read_text().split("y_train, y_test ")[1].splitlines()[0] == targets
    gates = {gate.metric for gate in Recipe.load(recipe).gates}
    assert ("tflite/int8.accuracy_drop" in gates) == (task in ("binary", "classes"))


def test_preprocessing_in_the_model_is_not_done_twice(tmp_path):
    layers = import_keras().layers
    augment = import_keras().Sequential([layers.RandomFlip(), layers.Rescaling(1 / 255, name="scaled")])
    model = saved(tmp_path / "m.keras", front=[augment])
    invoke(model, "-o", tmp_path / "inside.yaml")
    assert Recipe.load(tmp_path / "inside.yaml").data.preprocess.scale == 1
    assert "# no preprocess, the model's own layer scaled does it" in (tmp_path / "inside.yaml").read_text()
    invoke(saved(tmp_path / "bare.keras"), "-o", tmp_path / "outside.yaml")
    assert Recipe.load(tmp_path / "outside.yaml").data.preprocess.scale == 1 / 255
    assert "# CHECK: images are mostly scaled" in (tmp_path / "outside.yaml").read_text()


def test_a_known_application_has_its_mode_also_below_another_top(tmp_path):
    keras = import_keras()
    base = keras.applications.MobileNet(alpha=0.25, weights=None, include_top=False, input_shape=(32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()
    keras.Sequential([base, pooled, keras.layers.Dense(2, activation="softmax")]).save(tmp_path / "m.keras")
    invoke(tmp_path / "m.keras", "-o", tmp_path / "r.yaml")
    assert Recipe.load(tmp_path / "r.yaml").data.preprocess.mode == "tf"
    assert "called as those of Keras' MobileNet" in (tmp_path / "r.yaml").read_text()


def test_a_model_that_can_not_be_trained_here_gets_a_recipe_that_needs_no_data(tmp_path):
    keras = import_keras()
    first, second = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    x = keras.layers.Add()([keras.layers.Conv2D(8, 3, name="a")(first), keras.layers.Conv2D(8, 3, name="b")(second)])
    keras.Model([first, second], [x, keras.layers.ReLU(name="positive")(x)]).save(tmp_path / "m.keras")
    document = json.loads(invoke(tmp_path / "m.keras", "-o", tmp_path / "r.yaml", "--json"))
    assert document["guess"]["unsuited"].endswith("has the shape (None, 6, 6, 8), not one row a sample")
    recipe = Recipe.load(tmp_path / "r.yaml")
    assert recipe.data is None
    assert document["guess"]["prunable_groups"] == 0  # sums of outputs can't be pruned
    assert [step.stage for step in recipe.steps] == ["load", "strip", "quantize", "export", "benchmark"]
    assert make_plan(recipe, Store(tmp_path / "store")).actions


def test_several_inputs_and_outputs_are_each_told_of_and_filled_in_by_name(tmp_path):
    keras = import_keras()
    image, tabular = keras.Input((12, 12, 1), name="image"), keras.Input((4,), name="facts")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, activation="relu", name="conv")(image))
    x = keras.layers.Concatenate()([x, tabular])  # 8 channels: only steps of one come near 60 %
    map_ = keras.layers.Conv2D(2, 1, name="map")(image)  # not a row per sample: it is left without labels
    kind = keras.layers.Dense(3, activation="softmax", name="kind")(x)
    keras.Model([image, tabular], [kind, keras.layers.Dense(1, name="level")(x), map_]).save(tmp_path / "m.keras")
    told = invoke(tmp_path / "m.keras", "-o", tmp_path / "r.yaml")
    assert "task        kind: classes: 3 outputs that add up to 1" in told
    assert "task        level: regression: one output without bounds" in told
    text = (tmp_path / "r.yaml").read_text()
    for member in ("x_train__image, x_test__image (N, 12, 12, 1)", "x_train__facts, x_test__facts (N, 4)"):
        assert f"  #   {member}\n" in text
    assert "  #   y_train__kind, y_test__kind (N,) from 0 to 2\n" in text
    assert "y_train__level, y_test__level (N,)" in text
    assert "map" not in text.replace("task of map", "").replace("output map", "")
    rng, parts = np.random.default_rng(0), {}
    for split, count in (("train", 40), ("test", 20)):
        parts |= {
            f"x_{split}__image": rng.random((count, 12, 12, 1)).astype(np.float32),
            f"x_{split}__facts": rng.random((count, 4)).astype(np.float32),
            f"y_{split}__kind": np.arange(count) % 3,
            f"y_{split}__level": rng.random(count).astype(np.float32),
        }
    np.savez(tmp_path / "data.npz", **parts)
    recipe = Recipe.load(tmp_path / "r.yaml")
    assert "tflite/int8.accuracy_drop[kind]" in {gate.metric for gate in recipe.gates}
    assert next(step.config for step in recipe.steps if step.stage == "prune").round_to == 1
    manifest = run(recipe, store=tmp_path / "store", until="finetune")
    assert {"finetune.accuracy[kind]", "finetune.mse[level]", "control.accuracy[kind]"} <= manifest.metrics.keys()


def test_names_that_yaml_would_read_otherwise_stay_names(tmp_path):
    (tmp_path / "1e3: #x").mkdir()
    model = saved(tmp_path / "1e3: #x" / "2024.keras", name="a\nseed: 3")
    invoke(model, "-o", tmp_path / "r.yaml")
    recipe = Recipe.load(tmp_path / "r.yaml")
    assert (recipe.name, recipe.seed) == ("2024", 7)
    assert (recipe.folder / recipe.model).resolve() == model.resolve()


def test_nothing_is_overwritten_or_left_half_written(tmp_path):
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


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("kind", ["pruned", "trained for int8"])
def test_half_finished_work_gets_a_recipe_that_goes_on_with_it(tmp_path, kind):
    keras, tfmot = import_keras(), import_tfmot()
    inputs = keras.Input((12,), name="x")
    x = keras.layers.Dense(16, activation="relu", name="hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="head")(x))
    if kind == "pruned":
        model = tfmot.sparsity.keras.prune_low_magnitude(model)
        layer = next(layer for layer in model.layers if layer.name.endswith("hidden"))
        layer.pruning_vars[0][1].assign(np.eye(12, 16, dtype=np.float32))
    else:
        model = tfmot.quantization.keras.quantize_model(model)
    model.save(tmp_path / "m.h5")
    document = json.loads(invoke(tmp_path / "m.h5", "-o", tmp_path / "r.yaml", "--json"))
    assert document["guess"]["macs"] == 12 * 16 + 16 * 3
    steps = {step.stage: step.config for step in Recipe.load(tmp_path / "r.yaml").steps}
    assert "prune" not in steps
    assert list(steps["quantize"].variants) == (["float32", "int8"] if kind == "pruned" else ["int8"])
    assert steps["export"].formats == (("tflite", "onnx") if kind == "pruned" else ("tflite",))
    reason = "zeros that the model came with" if kind == "pruned" else "nothing can be pruned"
    assert reason in (tmp_path / "r.yaml").read_text()
