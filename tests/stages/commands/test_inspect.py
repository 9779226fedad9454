import json

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.cli import build_app
from pipeline.errors import ModelError, RecipeError
from stages.keras.tensorflow import import_keras

APP = build_app(["inspect", "version"])


def invoke(*arguments):
    result = CliRunner().invoke(APP, ["inspect", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture
def model_file(tmp_path):
    """Make a model with a nested model, and a layer called twice."""
    keras = import_keras()
    layers = keras.layers
    inner = keras.Sequential([keras.Input((8, 8, 4)), layers.Conv2D(6, 3, name="inside")], name="nested")
    image = keras.Input((8, 8, 3), name="image")
    x = inner(layers.Conv2D(4, 1, name="first")(image))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    path = tmp_path / "small.keras"
    keras.Model(image, layers.Dense(2, activation="softmax", name="head")(x), name="small").save(path)
    return path


def test_the_tables_name_every_layer_and_group(model_file):
    text = invoke(model_file)
    lines = text.splitlines()
    assert lines[0].endswith("small · 5 layers · 252 params · 8.6 k MACs")
    assert max(map(len, lines[1:])) <= 100
    assert any(line.split()[:5] == ["inside", "Conv2D", "6×6×6", "222", "7.8"] for line in lines)
    assert any("first → inside" in line for line in lines)
    assert any(line.startswith("head") and "frozen: head: softmax across channels" in line for line in lines)
    assert lines[-1].startswith("2 of 4 groups can be pruned: at most 93.9% of the MACs and 92.9% of")


def test_weights_that_are_no_numbers_are_told_beside_the_table(model_file):
    keras = import_keras()
    model = keras.models.load_model(model_file)
    bias = model.get_layer("head").bias
    bias.assign([0.0, float("nan")])
    model.save(model_file)
    result = CliRunner().invoke(APP, ["inspect", str(model_file)], catch_exceptions=False)
    assert "layer 'head' holds NaN or infinity in its weight 'head/bias'" in result.stderr
    assert "NaN" not in result.stdout


def test_one_json_document(model_file):
    document = json.loads(invoke(model_file, "--json"))
    assert document["schema_version"] == 1
    assert [layer["name"] for layer in document["layers"]] == ["image", "first", "inside", "pool", "head"]
    assert document["layers"][1] == {
        "name": "first",
        "kind": "Conv2D",
        "output": [8, 8, 4],
        "params": 16,
        "macs": 768,
        "macs_exact": True,
        "groups": ["first"],
    }
    assert sum(layer["macs"] for layer in document["layers"]) == document["macs"]
    # One channel in each: 3 and 9 weights on 64 and 36 positions, and 2 in the head.
    assert document["prunable_macs_share"] == pytest.approx(1 - (3 * 64 + 9 * 36 + 2) / document["macs"])


def test_applications_and_recipes_are_models_too(model_file):
    assert "MobileNet" in invoke("MobileNet").splitlines()[0]
    recipe = model_file.with_suffix(".yaml")
    recipe.write_text("name: it\nmodel: small.keras\nstages: [load]\n")
    assert "small · 5 layers" in invoke(recipe)


def test_what_is_no_model_is_told(tmp_path):
    (tmp_path / "text.h5").write_text("no model")
    with pytest.raises(ModelError, match="no Keras model file"):
        invoke(tmp_path / "text.h5")
    with pytest.raises(RecipeError, match="not there"):
        invoke(tmp_path / "nothing.keras")
    with pytest.raises(RecipeError, match="no application is called"):
        invoke("MobilNet")


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_code_in_a_file_needs_trust(tmp_path):
    keras = import_keras()
    inputs = keras.Input((4,))
    doubled = keras.layers.Lambda(lambda x: x * 2, name="doubled")(inputs)
    keras.Model(inputs, keras.layers.Dense(2, name="head")(doubled)).save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match="'doubled' holds Python code") as caught:
        invoke(tmp_path / "m.keras")
    assert "--trust" in caught.value.hint
    assert "doubled" in invoke(tmp_path / "m.keras", "--trust")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: it\nmodel: {path: m.keras, trust: true}\nstages: [load]\n")
    assert "doubled" in invoke(recipe)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_files_of_keras_3_are_models_too(tmp_path):
    from stages.load.keras3 import import_keras3

    keras = import_keras3()
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.Conv2D(4, 1, name="first")(image))
    keras.Model(image, keras.layers.Dense(2, name="head")(x)).save(tmp_path / "m.keras")
    text = invoke(tmp_path / "m.keras")
    assert "1 of 3 groups can be pruned" in text


@pytest.fixture
def open_file(tmp_path):
    keras = import_keras()
    image = keras.Input((None, None, 3), name="image")
    path = tmp_path / "open.keras"
    keras.Model(image, keras.layers.Conv2D(4, 3, padding="same")(image)).save(path)
    return path


@pytest.mark.parametrize(
    ("options", "shape"),
    [((), (96, 96)), (("--sizes", 8), (8, 8)), (("--sizes", "8,6"), (8, 6)), (("--sizes", "image=8,6"), (8, 6))],
)
def test_open_sizes_can_be_said_and_macs_follow_them(open_file, options, shape):
    document = json.loads(invoke(open_file, "--json", *options))
    assert document["macs_size"] == {"image": [*shape, 3]}
    assert document["macs"] == shape[0] * shape[1] * 27 * 4
    assert invoke(open_file, *options).splitlines()[-1] == (
        f"MACs are counted at image {shape[0]}×{shape[1]}×3: the model leaves sizes open"
    )


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (("--sizes", "0"), RecipeError, "'0' are not sizes"),
        (("--sizes", "8x8"), RecipeError, "'8x8' are not sizes"),
        (("--sizes", "8", "--sizes", "9"), RecipeError, "said twice"),
        (("--sizes", "8,8,3"), ModelError, "--sizes gives 3 sizes"),
        (("--sizes", "other=8"), ModelError, "names 'other', no input"),
    ],
)
def test_what_are_no_sizes_is_told(open_file, options, error, said):
    result = CliRunner().invoke(APP, ["inspect", str(open_file), *options])
    assert isinstance(result.exception, error)
    assert said in result.exception.what


def test_of_a_recipe_the_data_say_the_size_where_they_are_there(open_file):
    folder = open_file.parent
    recipe = folder / "r.yaml"
    recipe.write_text("name: r\nmodel: open.keras\ndata: {source: npz, path: d.npz}\nstages: [load]\n")
    result = CliRunner().invoke(APP, ["inspect", str(recipe)], catch_exceptions=False)
    assert "d.npz is not there: its size is not known" in result.stderr
    assert "image 96×96×3" in result.stdout
    np.savez(folder / "d.npz", x_train=np.zeros((2, 10, 7, 3)))
    assert "image 10×7×3" in invoke(recipe)
    assert "image 5×5×3" in invoke(recipe, "--sizes", "5")
    recipe.write_text(recipe.read_text().replace("open.keras", "{path: open.keras, sizes: [10, 7]}"))
    assert "image 10×7×3" in invoke(recipe)
