"""Check the recipes that models get."""

import json
import re

import numpy as np
import pytest

from pipeline import run
from pipeline.planning.plan import make_plan
from pipeline.recipe.recipe import Recipe
from pipeline.store import Store
from stages.keras.tensorflow import import_keras, import_tfmot


def test_a_model_that_can_not_be_trained_here_gets_a_recipe_that_needs_no_data(tmp_path, invoke):
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


def test_several_inputs_and_outputs_are_each_told_of_and_filled_in_by_name(tmp_path, invoke):
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
    gates = {gate.metric: gate.max for gate in recipe.gates}
    assert (gates["tflite/int8.accuracy_drop[kind]"], gates["tflite/int8.mse_ratio[level]"]) == (0.02, 1.5)
    assert next(step.config for step in recipe.steps if step.stage == "verify").max_accuracy_drop == 0.02
    assert next(step.config for step in recipe.steps if step.stage == "prune").round_to == 1
    manifest = run(recipe, store=tmp_path / "store", until="finetune")
    assert {"finetune.accuracy[kind]", "finetune.mse[level]", "control.accuracy[kind]"} <= manifest.metrics.keys()


def dense_heads(folder, **settings):
    """Write a model of one layer a head, of which no channel can be pruned."""
    keras = import_keras()
    inputs = keras.Input((4,), name="x")
    heads = [keras.layers.Dense(size, activation, name=name)(inputs) for name, (size, activation) in settings.items()]
    keras.Model(inputs, heads).save(folder / "m.keras")


def gated(folder, invoke, **labels):
    x = np.random.default_rng(0).random((80, 4)).astype(np.float32)
    members = {f"y_{split}{name}": y for name, y in labels.items() for split in ("train", "test")}
    np.savez(folder / "d.npz", x_train=x, x_test=x, **members)
    invoke(folder / "m.keras", "-o", folder / "r.yaml", "--data", folder / "d.npz", "--force")
    return Recipe.load(folder / "r.yaml")


@pytest.mark.parametrize(
    ("head", "labels", "metric"),
    [
        ((1, None), np.linspace(0, 3, 80, dtype="f4"), "tflite/int8.mse_ratio"),
        ((1, None), np.arange(80) % 2, "tflite/int8.accuracy_drop"),  # then the number is the logit of two classes
        ((3, None), np.linspace(0, 3, 240, dtype="f4").reshape(80, 3), "tflite/int8.mse_ratio"),  # no logits after all
        ((3, "sigmoid"), np.eye(4, 3, dtype="i4").repeat(20, axis=0), "tflite/int8.accuracy_drop"),
    ],
)
def test_a_run_of_the_recipe_has_the_metric_by_which_it_judges_the_output(tmp_path, head, labels, metric, invoke):
    dense_heads(tmp_path, head=head)
    recipe = gated(tmp_path, invoke, **{"": labels})
    assert metric in {gate.metric for gate in recipe.gates}
    text = (tmp_path / "r.yaml").read_text().replace("  - benchmark: {targets: [cpu], rounds: 10}\n", "")
    (tmp_path / "r.yaml").write_text(re.sub(r".*latency_ratio.*\n", "", text).replace("[tflite, onnx]", "[tflite]"))
    manifest = run(Recipe.load(tmp_path / "r.yaml"), store=tmp_path / "store")
    (gate,) = manifest.gates
    assert (gate.metric, gate.value) == (metric, manifest.metrics[metric])


def test_outputs_that_the_data_has_no_labels_for_are_not_judged(tmp_path, invoke):
    dense_heads(tmp_path, kind=(3, "softmax"), level=(1, None))
    recipe = gated(tmp_path, invoke, __level=np.linspace(0, 3, 80, dtype="f4"))
    judged = {gate.metric for gate in recipe.gates if "latency" not in gate.metric}
    assert judged == {"tflite/int8.mse_ratio[level]"}
    assert next(step.config for step in recipe.steps if step.stage == "verify").max_accuracy_drop is None


def test_names_that_yaml_would_read_otherwise_stay_names(tmp_path, invoke, saved):
    folder = tmp_path / "1e3: #é\u2028\U0001f600"
    folder.mkdir()
    model = saved(folder / "2024.keras", name="a\nseed: 3")
    invoke(model, "-o", tmp_path / "r.yaml")
    recipe = Recipe.load(tmp_path / "r.yaml")
    assert (recipe.name, recipe.seed) == ("2024", 7)
    assert (recipe.folder / recipe.model).resolve() == model.resolve()


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("kind", ["pruned", "trained for int8"])
def test_half_finished_work_gets_a_recipe_that_goes_on_with_it(tmp_path, kind, invoke):
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
