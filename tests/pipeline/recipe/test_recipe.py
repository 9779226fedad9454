import subprocess
import sys

import pytest

from pipeline.errors import RecipeError
from pipeline.recipe.model_spec import Application
from pipeline.recipe.recipe import Recipe


def load(recipe_file, *replace, overrides=()):
    return Recipe.load(recipe_file(replace=replace), overrides)


def refused(recipe_file, *replace, overrides=()):
    with pytest.raises(RecipeError) as caught:
        load(recipe_file, *replace, overrides=overrides)
    return caught.value


def test_a_recipe_is_read_with_defaults_filled_in(recipe_file):
    recipe = load(recipe_file)
    assert [step.id for step in recipe.steps] == [
        "load",
        "prune",
        "finetune",
        "strip",
        "quantize",
        "export",
        "verify",
        "benchmark",
    ]
    assert recipe.steps[1].config.ratio == 0.5
    assert recipe.data.validation.fraction == 0.1
    assert recipe.threads == 2


def test_a_stage_that_occurs_twice_is_numbered(recipe_file):
    recipe = load(recipe_file, ("  - strip\n", "  - prune: {ratio: 0.2}\n  - strip\n"))
    assert [step.id for step in recipe.steps if step.stage == "prune"] == ["prune[1]", "prune[2]"]


def test_what_a_stage_says_of_its_settings_is_told_with_their_line(recipe_file):
    recipe = load(recipe_file)
    lines = recipe.source.file.read_text().splitlines()
    line = 1 + next(index for index, text in enumerate(lines) if "prune:" in text)
    for where in ("prune", "prune.ratio", "prune.layers"):
        told = recipe.place_of(where, recipe.steps[1].index)
        assert told.startswith(f"{recipe.source.file}:{line}:")
        assert told.endswith(f"stages[1].{where}")
    assert recipe.place_of("data.test", recipe.steps[1].index).endswith("data.test")
    for elsewhere in ("conv1", "tflite/int8", "finetune.epochs", None):
        assert recipe.place_of(elsewhere, recipe.steps[1].index) == elsewhere


def test_an_application_is_a_model(recipe_file):
    text = "{application: Xception, weights: null, include_top: false, input_shape: [96, 96, 3], head: {classes: 10}}"
    model = load(recipe_file, ("model.keras", text)).model
    assert isinstance(model, Application)
    assert (model.head.classes, model.input_shape) == (10, (96, 96, 3))


@pytest.mark.parametrize(
    ("old", "new", "what", "where", "hint"),
    [
        ("ratio: 0.5", "raito: 0.5", "prune.raito: unknown key", ":11:13   stages[1].prune.raito", "nearest is ratio"),
        ("ratio: 0.5", "ratio: 1.5", "prune.ratio: 1.5", ":11:13   stages[1].prune.ratio", None),
        ("ratio: 0.5", 'ratio: "0.5"', 'prune.ratio: "0.5"', ":11:13", None),
        ("ratio: 0.5", "ratio: .nan", "prune.ratio: NaN", ":11:13", None),
        ("epochs: 1", "epochs: one", "finetune.epochs: ", ":12:16", None),
        ("  - strip", "  - stirp", "no stage is called 'stirp'", ":13:5   stages[3]", "nearest is strip"),
        ("seed: 3", "seed: no", 'seed: "no"', ":2:1   seed", None),
        ("seed: 3", "seeed: 3", "seeed: unknown key", ":2:1   seeed", "nearest is seed"),
        ("source: npz", "source: nzp", 'data.source: "nzp" is not allowed', ":5:3", "nearest is npz; allowed: 'npz'"),
        ("path: data.npz\n", "path: data.npz\n  tset: test\n", "data.tset: unknown key", ":7:3", "nearest are test"),
        (
            "[float32, int8]",
            "[float32, int9]",
            'quantize.schemes[1]: "int9" is not allowed',
            ":14:35",
            "nearest is int8",
        ),
        ("[float32, int8]", "[]", "quantize.schemes", ":14:16", None),
        ("[float32, int8]", "int8", 'quantize.schemes: "int8": a list is needed', ":14:16", 'write ["int8"]'),
        ("  - strip", "  - strip: 3", "strip: 3: a map of settings is needed", ":13:5", "{key: value}"),
        ("max: 0.5", "mxa: 0.5", "gates[0]", ":19:", None),
        ("max: 0.5", "min: -.inf", "gates[0].min", ":19:", None),
        ("name: small", "name: ../up", "name: ", ":1:1", None),
        ("seed: 3", "Seed: 3", "Seed: unknown key", ":2:1   Seed", "seed"),
        ("seed: 3", '"a.b": 3', "a.b: unknown key", ":2:1", None),
        ("path: data.npz", "path: 5", "data.path: 5: text is needed", ":6:3   data.path", 'write "5"'),
        ("epochs: 1", "epochs: 99999999999999999999", "is larger than any setting takes", ":12:16", None),
        ("threads", "threads", "", "", None),
    ],
)
def test_mistakes_are_named_with_their_place(recipe_file, old, new, what, where, hint):
    if old == "threads":  # a missing key has no separate place
        old, new, what, where = "model: model.keras\n", "", "model: is missing", "recipe.yaml"
    error = refused(recipe_file, (old, new))
    assert what in error.what
    assert where in error.where
    if hint:
        assert hint in error.hint
    assert error.exit_code == 2


def test_mistakes_are_found_without_tensorflow(recipe_file):
    path = recipe_file(replace=[("ratio: 0.5", "ratio: 1.5")])
    code = "import sys; from pipeline.start import main; sys.argv = ['secateur', 'plan', sys.argv[1]]\n"
    code += "try: main()\nexcept SystemExit as stop: print(stop.code, {'tensorflow', 'numpy'} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "2 set()"


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
    with pytest.raises(RecipeError, match="no text in UTF-8") as caught:
        Recipe.load(tmp_path / "binary.yaml")
    assert "save it as UTF-8" in caught.value.hint
    with pytest.raises(RecipeError, match="this is a folder") as caught:
        Recipe.load(tmp_path)
    assert "file in it" in caught.value.hint


def test_set_changes_values_as_yaml_1_2_reads_them(recipe_file):
    overrides = ("stages.prune.ratio=1e-1", "stages.strip={}", "seed=5", "stages.finetune.plateau.patience=2")
    error = refused(recipe_file, overrides=overrides)
    assert "names a whole stage" in error.what
    recipe = load(recipe_file, overrides=(overrides[0], *overrides[2:]))
    assert (recipe.steps[1].config.ratio, recipe.seed, recipe.steps[2].config.plateau.patience) == (0.1, 5, 2)


def test_set_reaches_list_elements_and_bare_stages(recipe_file):
    recipe = load(
        recipe_file, overrides=("stages.quantize.schemes=[float16]", "stages.benchmark.rounds=12", "gates.0.max=1")
    )
    assert list(recipe.steps[4].config.variants) == ["float16"]
    assert recipe.steps[7].config.rounds == 12
    assert recipe.gates[0].max == 1


@pytest.mark.parametrize(
    ("override", "words", "hint"),
    [
        ("stages.prnue.ratio=1", "no stage 'prnue'", "prune"),
        ("stages.prune", "KEY.PATH=VALUE", "--set"),
        ("gates.7.max=1", "no element", "from 0"),
        ("stages.prune[2].ratio=1", "has 1 stages 'prune'", "from 1"),
        ("stages.prune.ratio=1.5", "prune.ratio: 1.5", None),
    ],
)
def test_a_wrong_override_is_named(recipe_file, override, words, hint):
    error = refused(recipe_file, overrides=(override,))
    assert words in error.what
    assert f"--set {override}" in error.where
    assert hint is None or hint in error.hint


def test_an_override_of_a_repeated_stage_must_say_which(recipe_file):
    twice = ("  - strip\n", "  - prune: {ratio: 0.2}\n  - strip\n")
    error = refused(recipe_file, twice, overrides=("stages.prune.ratio=0.1",))
    assert "stages.prune[1], stages.prune[2]" in error.hint
    recipe = load(recipe_file, twice, overrides=("stages.prune[2].ratio=0.1",))
    assert [step.config.ratio for step in recipe.steps if step.stage == "prune"] == [0.5, 0.1]
