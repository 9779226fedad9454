"""Check what is guessed of a model, by the recipe that says so."""

import json

import pytest

from pipeline.recipe.recipe import Recipe
from stages.keras.tensorflow import import_keras


@pytest.mark.parametrize(
    ("outputs", "activation", "task", "targets"),
    [
        (1, "sigmoid", "binary", "(N,) of 0 and 1"),
        (5, "sigmoid", "multilabel", "(N, 5) of 0 and 1"),
        (1, None, "regression", "(N,)"),
        (4, None, "classes", "(N,) from 0 to 3"),
    ],
)
def test_the_task_is_told_from_the_outputs(tmp_path, outputs, activation, task, targets, invoke, saved):
    model, recipe = saved(tmp_path / "m.keras", outputs, activation), tmp_path / "r.yaml"
    document = json.loads(invoke(model, "-o", recipe, "--json"))
    assert document["schema_version"] == 1
    (output,) = document["guess"]["outputs"]
    assert (output["name"], output["task"], output["size"]) == ("head", task, outputs)
    assert document["fill_in"] == ["data.path"]
    assert recipe.read_text().split("y_train, y_test ")[1].splitlines()[0] == targets
    gates = {gate.metric for gate in Recipe.load(recipe).gates}
    assert ("tflite/int8.accuracy_drop" in gates) == (task in ("binary", "classes", "multilabel"))
    assert ("tflite/int8.mse_ratio" in gates) == (task == "regression")


def test_preprocessing_in_the_model_is_not_done_twice(tmp_path, invoke, saved):
    layers = import_keras().layers
    augment = import_keras().Sequential([layers.RandomFlip(), layers.Rescaling(1 / 255, name="scaled")])
    model = saved(tmp_path / "m.keras", front=[augment])
    invoke(model, "-o", tmp_path / "inside.yaml")
    assert Recipe.load(tmp_path / "inside.yaml").data.preprocess.scale == 1
    assert "# no preprocess, the model's own layer scaled does it" in (tmp_path / "inside.yaml").read_text()
    invoke(saved(tmp_path / "bare.keras"), "-o", tmp_path / "outside.yaml")
    assert Recipe.load(tmp_path / "outside.yaml").data.preprocess.scale == 1 / 255
    assert "# CHECK: images are mostly scaled" in (tmp_path / "outside.yaml").read_text()


def test_a_known_application_has_its_mode_also_below_another_top(tmp_path, invoke):
    keras = import_keras()
    base = keras.applications.MobileNet(alpha=0.25, weights=None, include_top=False, input_shape=(32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()
    keras.Sequential([base, pooled, keras.layers.Dense(2, activation="softmax")]).save(tmp_path / "m.keras")
    invoke(tmp_path / "m.keras", "-o", tmp_path / "r.yaml")
    assert Recipe.load(tmp_path / "r.yaml").data.preprocess.mode == "tf"
    assert "called as those of Keras' MobileNet" in (tmp_path / "r.yaml").read_text()
