import pytest

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.yaml_source import read_yaml


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
