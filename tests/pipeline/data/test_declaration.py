"""Check that each source owns its keys: flat under `data`, and unchanged in the digests of splits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.cli.schema import recipe_schema
from pipeline.data import DataSpec
from pipeline.data.csv_table import CsvSettings
from pipeline.data.declaration import every_source, fields_of_sources, owners, source_names
from pipeline.data.image_folder import FolderSettings

FEATURES = {"i": {"type": "image"}, "n": {"type": "raw", "shape": [2], "dtype": "int8"}}
# What these settings contributed to the digests of splits when one class had the keys of all sources.
FORMS = [
    ({"source": "npz", "path": "d.npz"}, {}),
    ({"source": "npz", "path": "d", "task": "regression", "metrics": ["mse"], "test": "t"}, {"task": "regression"}),
    ({"source": "npz", "path": "d", "channels": 3, "resize": "bilinear", "size": None}, {}),
    ({"source": "image_folder", "path": "x", "size": [4, 5], "channels": 1}, {"size": [4, 5], "channels": 1}),
    (
        {"source": "image_folder", "path": "x", "size": [4, 5], "resize": "crop", "classes": ["a"], "channels": 3},
        {"size": [4, 5], "resize": "crop", "classes": ["a"]},
    ),
    (
        {"source": "csv", "path": "x", "image": "p", "label": "l", "size": [4, 5], "split": "s"},
        {"image": "p", "label": "l", "size": [4, 5]},
    ),
    (
        {"source": "csv", "path": "x", "inputs": {"a": ["x"]}, "label": {"o": "q", "r": ["s"]}},
        {"inputs": {"a": ["x"]}, "label": {"o": "q", "r": ["s"]}},
    ),
    (
        {"source": "tfrecord", "path": "x", "features": FEATURES, "label": "n", "size": [3, 3], "inputs": ["i"]},
        {"features": FEATURES, "label": "n", "size": [3, 3], "inputs": ["i"]},
    ),
    ({"source": "python", "function": "mine:make", "task": {"a": "classes"}}, {"task": {"a": "classes"}}),
]


def spec_of(settings):
    return DataSpec.model_validate_json(json.dumps(settings))


@pytest.mark.parametrize(("settings", "form"), FORMS)
def test_what_settings_say_of_samples_is_what_it_was(settings, form):
    spec = spec_of(settings)
    assert spec.form() == form
    assert DataSpec.model_validate_json(spec.model_dump_json(by_alias=True)) == spec


def test_settings_are_typed_whether_they_come_from_a_file_or_from_python():
    read = spec_of({"source": "image_folder", "path": "x", "size": [4, 5], "classes": ["b", "a"]})
    written = DataSpec(source="image_folder", path=Path("x"), size=(4, 5), classes=("b", "a"))
    assert read == written
    assert read.settings == FolderSettings(path=Path("x"), size=(4, 5), classes=("b", "a"))
    assert read.classes == ("b", "a")
    assert spec_of({"source": "npz", "path": "d"}).classes is None
    with pytest.raises(ValidationError, match="valid tuple"):
        DataSpec(source="image_folder", path=Path("x"), size=[4, 5])


@pytest.mark.parametrize(
    ("settings", "place", "kind"),
    [
        ({"source": "image_folder", "path": "x", "size": [0, 4]}, ("size", 0), "greater_than_equal"),
        ({"source": "csv", "path": 5}, ("path",), "string_type"),
        ({"source": "csv", "path": "x", "colum": "a"}, ("colum",), "extra_forbidden"),
        ({"source": "tfrecord", "path": "x", "features": {"i": {"typ": 1}}}, ("features", "i", "type"), "missing"),
        ({"source": "nzp", "path": "x"}, ("source",), "literal_error"),
        ({"source": "csv", "path": "x", "image": "p"}, (), "value_error"),
    ],
)
def test_a_finding_has_its_place_as_if_all_keys_were_one_class(settings, place, kind):
    with pytest.raises(ValidationError) as caught:
        spec_of(settings)
    assert (place, kind) in [(error["loc"], error["type"]) for error in caught.value.errors()]


def test_every_key_has_owners_and_the_schema_has_all_of_them():
    assert set(source_names()) >= {"npz", "image_folder", "csv", "tfrecord", "python"}
    assert owners("size") == ("csv", "image_folder", "tfrecord")
    assert owners("function") == ("python",)
    assert owners("nothing") == ()
    schema = recipe_schema()["$defs"]["DataSpec"]
    assert not schema["additionalProperties"]
    assert schema["properties"].keys() == DataSpec.model_fields.keys() | fields_of_sources().keys()
    assert schema["required"] == ["source"]
    assert schema["properties"]["source"]["enum"] == list(source_names())
    label = schema["properties"]["label"]
    assert "a column or several" in label["description"]
    assert "tfrecord: a feature" in label["description"]
    assert {"items": {"type": "string"}, "type": "array"} in label["anyOf"]


def test_no_key_is_a_common_one_and_a_source_s_at_once():
    common = set(DataSpec.model_fields)
    for name, source in every_source().items():
        assert not common & source.settings.model_fields.keys(), name
        assert source.settings.places <= source.settings.model_fields.keys(), name


def test_a_recipe_imports_its_own_source_alone_and_no_numpy():
    program = (
        "import json, sys; from pipeline.data import DataSpec\n"
        "spec = DataSpec.model_validate_json(sys.argv[1])\n"
        "print(spec.form(), sorted(n for n in sys.modules if n.startswith('pipeline.data.')), 'numpy' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, json.dumps({"source": "npz", "path": "d.npz"})],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "pipeline.data.npz'" in found
    assert not {"csv_table", "tfrecord", "image_folder", "python_function"} & set(found.replace("'", ".").split("."))
    assert found.strip().endswith("False")


def test_a_setting_is_checked_by_its_own_source():
    with pytest.raises(ValidationError, match="give either image or inputs"):
        CsvSettings(path=Path("x"), image="p", inputs=("a",), size=(1, 1))
