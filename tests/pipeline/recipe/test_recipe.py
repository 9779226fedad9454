import subprocess
import sys

import pytest


def test_a_recipe_is_read_with_defaults_filled_in(recipe_file, load):
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


def test_what_a_stage_says_of_its_settings_is_told_with_their_line(recipe_file, load):
    recipe = load(recipe_file)
    lines = recipe.source.file.read_text().splitlines()
    line = 1 + next(index for index, text in enumerate(lines) if "prune:" in text)
    for where in ("prune", "prune.ratio", "prune.layers"):
        told = recipe.place_of(where, recipe.steps[1].index)
        assert told.startswith(f"{recipe.source.file}:{line}:")
        assert told.endswith(f"stages[1].{where}")
    for elsewhere in ("data.test", "control.narrow"):
        assert recipe.place_of(elsewhere, recipe.steps[1].index).endswith(elsewhere)
        assert recipe.place_of(elsewhere, recipe.steps[1].index) != elsewhere
    for elsewhere in ("conv1", "tflite/int8", "finetune.epochs", None):
        assert recipe.place_of(elsewhere, recipe.steps[1].index) == elsewhere


@pytest.mark.parametrize(
    ("control", "on", "source_epochs"),
    [
        ("true", True, None),
        ("false", False, None),
        ("{}", True, None),
        ("{narrow: true}", True, 0),
        ("{narrow: true, source_epochs: 9}", True, 9),
    ],
)
def test_a_control_is_on_or_off_or_says_what_else_is_trained(recipe_file, load, control, on, source_epochs):
    recipe = load(recipe_file, ("control: true", f"control: {control}"))
    assert (bool(recipe.control), recipe.source_epochs) == (on, source_epochs)


def test_a_narrower_network_can_be_asked_for_from_outside(recipe_file, load):
    assert load(recipe_file, overrides=("control.narrow=true",)).source_epochs == 0


def test_mistakes_are_found_without_tensorflow(recipe_file):
    path = recipe_file(replace=[("ratio: 0.5", "ratio: 1.5")])
    code = "import sys; from pipeline.start import main; sys.argv = ['secateur', 'plan', sys.argv[1]]\n"
    code += "try: main()\nexcept SystemExit as stop: print(stop.code, {'tensorflow', 'numpy'} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "2 set()"
