"""Run the load stage through the engine: real recipes, a real store, everything from the file to the record."""

import json

import numpy as np
import pytest

from pipeline.errors import ModelError, RecipeError
from stages.keras.normal_form import decode_model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


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


def test_load_has_no_settings_of_its_own(loaded, keras2, residual, tmp_path):
    residual(keras2).save(tmp_path / "m.keras")
    with pytest.raises(RecipeError, match="load has no settings here"):
        loaded("m.keras", stages="[{load: {trust: true}}]")
