"""Run the load stage through the engine: real recipes, a real store, everything from the file to the record."""

import importlib
import json
import sys

import numpy as np
import pytest

from pipeline import Recipe, run
from pipeline.errors import ModelError, RecipeError
from stages.keras.normal_form import decode_model
from stages.load import load_model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
LAYERS = """
import tf_keras

class Scale(tf_keras.layers.Layer):
    def __init__(self, factor=2.0, **more):
        super().__init__(**more)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}
"""


@pytest.fixture
def loaded(tmp_path):
    """Run a recipe that loads a `model:` and strips it; return the manifest's entries and the stored files."""

    def of(model, stages="[load, strip]"):
        path = tmp_path / "recipe.yaml"
        path.write_text(f"name: it\nmodel: {model}\nstages: {stages}\n")
        manifest = run(Recipe.load(path), store=tmp_path / "store")
        blobs = tmp_path / "store" / "blobs" / "sha256"
        outputs = manifest.stages[0].outputs[0]
        return manifest.stages, {f.name: blobs / f.digest.removeprefix("sha256:") for f in outputs.files}

    return of


def test_differences_are_in_the_manifest(keras3, residual, outputs, loaded, tmp_path):
    model = residual(keras3)
    model.save(tmp_path / "m.keras")
    entries, files = loaded("m.keras")
    assert 0 <= entries[0].metrics["translation_difference"] <= 1e-5
    assert entries[0].metrics["stored_difference"] <= 1e-6
    assert np.abs(outputs(decode_model(files["model.keras"])) - outputs(model)).max() <= 1e-5
    again, _ = loaded("{path: m.keras}")
    assert [entry.status for entry in again] == ["hit", "hit"]


def test_what_was_split_off_is_a_file_beside_the_model(keras2, residual, loaded, tmp_path):
    residual(keras2).save(tmp_path / "m.keras")
    _, files = loaded("{path: m.keras, preprocess: extract}")
    document = json.loads(files["preprocessing.json"].read_text())
    assert document["layers"][0]["class"] == "Rescaling"
    assert document["layers"][0]["settings"] == {"scale": pytest.approx(1 / 127.5), "offset": -1.0}
    assert decode_model(files["model.keras"]).layers[1].name == "stem"


def test_errors_name_the_users_files_and_not_their_copies(keras2, residual, loaded, tmp_path):
    (tmp_path / "m.json").write_text(residual(keras2).to_json())
    (tmp_path / "w.h5").write_bytes(b"\x89HDF\r\n\x1a\n cut")
    with pytest.raises(ModelError, match="damaged") as caught:
        loaded("{path: m.json, weights: w.h5}")
    assert caught.value.where == str(tmp_path / "w.h5")
    with pytest.raises(ModelError, match="damaged") as caught:
        loaded("{application: MobileNetV2, input_shape: [32, 32, 3], weights: w.h5}")
    assert caught.value.where == str(tmp_path / "w.h5")


def test_a_savedmodel_folder(keras2, residual, loaded, tmp_path):
    residual(keras2).save(tmp_path / "saved", save_format="tf")
    entries, _ = loaded("saved")
    assert entries[0].metrics["translation_difference"] <= 1e-5
    assert [entry.status for entry in loaded("saved")[0]] == ["hit", "hit"]


@pytest.fixture
def custom(keras2, tmp_path, monkeypatch):
    """Make a module with a layer next to the recipe, and a model with it, as saved by an earlier process."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "scaling.py").write_text(LAYERS)
    sys.path.append(str(tmp_path))
    module = importlib.import_module("scaling")
    inputs = keras2.Input((3,))
    model = keras2.Model(inputs, keras2.layers.Dense(2)(module.Scale(3.0, name="own")(inputs)))
    model.save(tmp_path / "m.keras")
    sys.path.pop()
    del sys.modules["scaling"]
    yield model
    sys.modules.pop("scaling", None)


def test_custom_layers_go_through_all_stages(custom, loaded, tmp_path, monkeypatch):
    monkeypatch.setattr("stages.load.custom_objects._sources", {})
    with pytest.raises(ModelError, match="'own' names the class Scale of scaling") as caught:
        loaded("m.keras")
    assert caught.value.where == str(tmp_path / "m.keras")
    entries, files = loaded("{path: m.keras, custom_objects: ['scaling:Scale']}")
    x = np.ones((2, 3), "float32")
    assert np.allclose(decode_model(files["model.keras"])(x), custom(x))
    first = entries[-1].outputs[0].digest

    # Another source is another model, with equal configuration and weights; this process has the old one, and reports
    # it.
    (tmp_path / "scaling.py").write_text(LAYERS.replace("x * self.factor", "x + self.factor"))
    with pytest.raises(ModelError, match="changed after it was imported"):
        loaded("{path: m.keras, custom_objects: ['scaling:Scale']}")
    del sys.modules["scaling"]
    monkeypatch.setattr("stages.load.custom_objects._sources", {})
    entries, files = loaded("{path: m.keras, custom_objects: ['scaling:Scale']}")
    assert entries[0].reason == "failed last time: the source of scaling changed after it was imported"
    assert not np.allclose(decode_model(files["model.keras"])(x), custom(x))
    assert entries[-1].outputs[0].digest != first


def test_a_custom_object_that_is_not_there(custom, loaded):
    with pytest.raises(ModelError, match="can't be imported") as caught:
        loaded("{path: m.keras, custom_objects: ['scaling:Scale', 'scaling:Other']}")
    assert caught.value.where == "scaling:Other"
    with pytest.raises(RecipeError, match="there is no module scalling"):
        loaded("{path: m.keras, custom_objects: ['scalling:Scale']}")


def test_load_has_no_settings_of_its_own(loaded, keras2, residual, tmp_path):
    residual(keras2).save(tmp_path / "m.keras")
    with pytest.raises(RecipeError, match="load has no settings here"):
        loaded("m.keras", stages="[{load: {trust: true}}]")


LAYERS_3 = LAYERS.replace("tf_keras", "keras").replace(
    "class Scale", "@keras.saving.register_keras_serializable()\nclass Scale"
)


def test_a_layer_of_keras_3_stays_a_layer_with_its_twin_for_tf_keras(keras3, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "twins_of_two.py").write_text(LAYERS)
    (tmp_path / "twins_of_three.py").write_text(LAYERS_3)
    inputs = keras3.Input((3,))
    own = importlib.import_module("twins_of_three").Scale(3.0, name="own")
    model = keras3.Model(inputs, keras3.layers.Dense(2)(own(inputs)))
    model.save(tmp_path / "m.keras")
    alone = load_model(tmp_path / "m.keras", custom_objects=("twins_of_three:Scale",))
    assert "own (Scale): tf_keras has no such layer: it is taken over as what it computes" in alone.notes[0]
    found = load_model(tmp_path / "m.keras", custom_objects=("twins_of_three:Scale", "twins_of_two:Scale"))
    assert type(found.model.get_layer("own")).__name__ == "Scale"
    x = np.ones((2, 3), "float32")
    for loaded in (alone, found):
        assert np.allclose(loaded.model(x), model(x), atol=1e-6)


def test_a_layer_whose_outputs_overflow_is_named(loaded, keras2, tmp_path):
    layers = keras2.layers
    inputs = keras2.Input((64,), name="x")
    boom = layers.Dense(8, name="boom", kernel_initializer=keras2.initializers.Constant(3e38))
    keras2.Model(inputs, layers.Dense(2, name="y")(boom(inputs))).save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match="layer 'boom' gives NaN or infinity on random inputs") as caught:
        loaded("m.keras")
    assert caught.value.where.endswith("m.keras")


@pytest.mark.parametrize("kind", ["keras2", "keras3"])
def test_weights_that_are_no_numbers_are_named(request, kind, residual, loaded, tmp_path):
    model = residual(request.getfixturevalue(kind))
    layer = next(layer for layer in model.layers if layer.weights)
    layer.set_weights([np.full_like(weight, np.nan) for weight in layer.get_weights()])
    model.save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match=f"layer '{layer.name}' holds NaN or infinity in its weight") as caught:
        loaded("m.keras")
    assert caught.value.where.endswith("m.keras")
    assert "diverged" in caught.value.hint
