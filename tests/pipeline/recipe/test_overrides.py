import pytest

from pipeline.errors import RecipeError


def test_set_changes_values_as_yaml_1_2_reads_them(recipe_file, load, refused):
    overrides = ("stages.prune.ratio=1e-1", "stages.strip={}", "seed=5", "stages.finetune.plateau.patience=2")
    error = refused(recipe_file, overrides=overrides)
    assert "names a whole stage" in error.what
    recipe = load(recipe_file, overrides=(overrides[0], *overrides[2:]))
    assert (recipe.steps[1].config.ratio, recipe.seed, recipe.steps[2].config.plateau.patience) == (0.1, 5, 2)


def test_set_reaches_list_elements_and_bare_stages(recipe_file, load):
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
        ("gates.7.max=1", "an element", "from 0"),
        ("stages.prune[2].ratio=1", "has 1 stages 'prune'", "from 1"),
        ("stages.prune.ratio=1.5", "prune.ratio: 1.5", None),
    ],
)
def test_a_wrong_override_is_named(recipe_file, override, words, hint, refused):
    error = refused(recipe_file, overrides=(override,))
    assert words in error.what
    assert f"--set {override}" in error.where
    assert hint is None or hint in error.hint


def test_an_override_of_a_repeated_stage_must_say_which(recipe_file, load, refused):
    twice = ("  - strip\n", "  - prune: {ratio: 0.2}\n  - strip\n")
    error = refused(recipe_file, twice, overrides=("stages.prune.ratio=0.1",))
    assert "stages.prune[1], stages.prune[2]" in error.hint
    recipe = load(recipe_file, twice, overrides=("stages.prune[2].ratio=0.1",))
    assert [step.config.ratio for step in recipe.steps if step.stage == "prune"] == [0.5, 0.1]


def test_overrides_reach_into_a_repeat_and_say_how(repeated):
    recipe = repeated("stages.repeat.times=2", "stages.repeat.stages.prune.ratio=0.8")
    assert [step.config.ratio for step in recipe.steps if step.stage == "prune"] == pytest.approx([0.4, 0.8])
    with pytest.raises(RecipeError, match="no stage 'prune' outside its repeat") as caught:
        repeated("stages.prune.ratio=0.8")
    assert caught.value.hint == "name stages.repeat.stages.prune"
