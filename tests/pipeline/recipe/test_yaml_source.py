import warnings
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml.error import ReusedAnchorWarning

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.yaml_source import read_yaml

EXPANDING = "".join(f"{name}: &{name} [{', '.join([f'*{before}'] * 8)}]\n" for before, name in pairwise("abcdefghijkl"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "not valid YAML"),
        ("a: 1\na: 2\n", "not valid YAML"),
        ("- load\n", "map of settings"),
        ("", "map of settings"),
        ("name: x\nmodel: y\nstages:\n  - {load: {}, strip: {}}\n", "a stage is a name, or a map with one key"),
        ("name: x\nmodel: y\nstages: load\n", "stages"),
        ("name: x\nmodel: y\nstages: []\n", "stages: is empty"),
        ("name: x\n\tmodel: y\n", "not valid YAML: a tab"),
        ("name: x\nmodel: y\nstages: [1, 2]\n", "a stage is a name"),
        ("name: !!bool x\n", "not valid YAML: a value does not fit its type"),
        ("seed: !!float\n", "not valid YAML: a value does not fit its type"),
        ("stages: !!set\n", "not valid YAML: a value does not fit its type"),
        ("a: " + "[" * 300 + "]" * 300, "the document is nested too deeply"),
        ("a: " + "[" * 60 + "]" * 60, "the document is nested too deeply"),
        ("a: &a [x, x, x, x, x, x, x, x]\n" + EXPANDING, "more than 20000 parts"),
        ("# long\n" * 150_000, "more than 1048576 characters"),
        ("name: x\nmodel: y\nbase: &b {a: 1}\nseed: {<<: *b}\nstages: [load]\n", "unknown key|seed"),
    ],
)
def test_text_that_is_no_recipe_is_refused(recipe_file, text, words):
    with pytest.raises(RecipeError, match=words):
        Recipe.load(recipe_file(text=text))


def test_a_recipe_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(RecipeError, match="not there"):
        Recipe.load(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not UTF-8 text") as caught:
        Recipe.load(tmp_path / "binary.yaml")
    assert "save it as UTF-8" in caught.value.hint
    with pytest.raises(RecipeError, match="this is a folder") as caught:
        Recipe.load(tmp_path)
    assert "file in it" in caught.value.hint


def test_what_stands_below_a_number_has_its_own_place(tmp_path):
    (tmp_path / "r.yaml").write_text("classes:\n  1:\n    name: x\n")
    source = read_yaml(tmp_path / "r.yaml")
    assert source.data == {"classes": {"1": {"name": "x"}}}
    assert source.where(("classes", "1", "name")) == f"{source.file}:3:5   classes.1.name"


def test_what_has_a_tag_of_another_tool_is_read_with_its_place(tmp_path):
    (tmp_path / "compose.yaml").write_text("web:\n  ports: !override\n    - {a: 1}\n    - !reset x\n  env: !x {b: 2}\n")
    source = read_yaml(tmp_path / "compose.yaml")
    assert source.data == {"web": {"ports": [{"a": 1}, "x"], "env": {"b": 2}}}
    assert source.where(("web", "ports", 0, "a")).startswith(f"{source.file}:3:8 ")
    assert source.where(("web", "ports", 1)).startswith(f"{source.file}:2:10 ")  # such a list only knows its own place


PIECES = (
    *("name: x", "model: y", "stages: [load]", "stages: !x [load]", "- load", "  - a: !y {b: *a}", "? [a, b]", ": c"),
    *("a: &a [1, 2]", "b: *a", "c: {<<: *a}", "d: !!set {a, b}", "e: !!omap [a: 1]", "f: !!bool no", "g: !!int x"),
    *("h: 2024-13-45", "i: !!binary aGk=", "1.5: 2", "~: x", "%YAML 1.1", "---", "j: |", "\tk: 1", "l: 'x", "!!float"),
)


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6))
@settings(max_examples=60)
def test_whatever_is_written_is_a_recipe_or_a_mistake_that_is_told(lines):
    with TemporaryDirectory() as folder, suppress(RecipeError), warnings.catch_warnings():
        warnings.simplefilter("ignore", ReusedAnchorWarning)
        path = Path(folder) / "r.yaml"
        path.write_text("\n".join(lines))
        Recipe.load(path)
