"""Check what of a recipe's model enters the key of `load`: contents and settings, never names and places."""

import pytest

from pipeline.errors import ModelError, RecipeError
from pipeline.planning.plan import resolve
from pipeline.recipe.model_files import digest_of_model, find_files, roles
from pipeline.recipe.recipe import Recipe
from pipeline.store import Store

FILES = "{path: m.json, weights: w.h5, custom_objects: ['mine.layers:Scale'], preprocess: extract, trust: true}"


@pytest.fixture
def key(recipe_file, tmp_path):
    """Return the key of `load` for a `model:` in the recipe, with files next to it."""
    (tmp_path / "m.json").write_text("{}")
    (tmp_path / "w.h5").write_bytes(b"weights")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").touch()
    (tmp_path / "mine" / "layers.py").write_text("class Scale: pass")

    def of(model):
        recipe = Recipe.load(recipe_file(replace=[("model.keras", model)]))
        resolution = resolve(recipe, Store(tmp_path / "store"))
        return resolution.action(resolution.chain.nodes[0]).key

    return of


def test_all_files_and_settings_enter_the_key(key, tmp_path):
    first = key(FILES)
    found = [first]
    for name in ("m.json", "w.h5", "mine/layers.py"):
        before = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(before + b" ")
        found.append(key(FILES))
        (tmp_path / name).write_bytes(before)
    for old, new in (("extract", "keep"), ("true", "false"), (":Scale", ":Shift")):
        found.append(key(FILES.replace(old, new)))
    assert len(set(found)) == len(found)
    assert key(FILES) == first


def test_names_and_places_do_not(key, tmp_path):
    first = key(FILES)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "w.h5").rename(tmp_path / "elsewhere" / "v.h5")
    assert key(FILES.replace("w.h5", "elsewhere/v.h5")) == first
    assert key("{path: model.keras}") == key("model.keras")


def test_an_applications_weights_enter_by_content(key, tmp_path):
    spec = "{application: Xception, weights: w.h5}"
    first = key(spec)
    (tmp_path / "w.h5").rename(tmp_path / "v.h5")
    assert key(spec.replace("w.h5", "v.h5")) == first
    (tmp_path / "v.h5").write_bytes(b"others")
    assert len({first, key(spec.replace("w.h5", "v.h5")), key(spec.replace("w.h5", "null"))}) == 3


def test_a_folder_is_its_files(key, tmp_path):
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "index").write_bytes(b"weights")
    first, digest = key("saved"), digest_of_model(folder)
    folder.rename(tmp_path / "moved")
    assert key("moved") == first
    (tmp_path / "moved" / "variables" / "index").rename(tmp_path / "moved" / "variables" / "xedni")
    assert digest_of_model(tmp_path / "moved") != digest
    (tmp_path / "moved" / "linked").symlink_to("/etc/passwd")
    with pytest.raises(ModelError, match="a link"):
        key("moved")


@pytest.mark.parametrize(
    ("model", "what"),
    [
        ("{path: none.h5}", "model.path: .*none.h5 is not there"),
        ("{path: m.json, weights: none.h5}", "model.weights: .*none.h5 is not there"),
        ("{application: Xception, weights: none.h5}", "model.weights: .*none.h5 is not there"),
        ("{path: m.json, custom_objects: ['nobodys.module:Scale']}", "there is no module nobodys.module"),
        ("{path: m.json, custom_objects: ['mine.nothing:Scale']}", "there is no module mine.nothing"),
        ("{path: m.json, custom_objects: [Scale]}", r"model.custom_objects\[0\]"),
        ("{path: m.json, preprocess: drop}", 'model.preprocess: "drop" is not allowed'),
        ("{path: m.json, trust: 1}", "model.trust: "),
        ("{paht: m.json}", "model"),
        ("{application: Xception, weigths: null}", "model.weigths: unknown key"),
        ("{application: Xception, weights: 5}", "model.weights"),
        ("5", "model: 5"),
    ],
)
def test_mistakes_are_told_with_their_place(key, model, what):
    with pytest.raises(RecipeError, match=what) as caught:
        key(model)
    assert "recipe.yaml:3" in caught.value.where


def test_modules_are_found_without_importing_them(key, recipe_file, tmp_path):
    (tmp_path / "mine" / "layers.py").write_text("raise RuntimeError('imported')")
    recipe = Recipe.load(recipe_file(replace=[("model.keras", FILES)]))
    assert find_files(recipe)["module mine.layers"] == tmp_path / "mine" / "layers.py"
    assert roles(recipe.model) == ("file", "weights", "module mine.layers")
