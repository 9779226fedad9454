import pytest

from pipeline.errors import RecipeError
from pipeline.recipe.steps import Repeat


def test_a_repeat_becomes_numbered_steps_that_take_more_each_time(repeated):
    recipe = repeated()
    ids = [step.id for step in recipe.steps]
    assert ids[:7] == ["load", "prune[1]", "finetune[1]", "prune[2]", "finetune[2]", "prune[3]", "finetune[3]"]
    prunes = [step.config for step in recipe.steps if step.stage == "prune"]
    assert [config.ratio for config in prunes] == pytest.approx([0.2, 0.4, 0.6])
    assert {config.round_to for config in prunes} == {4}
    assert [step.index for step in recipe.steps] == list(range(len(ids)))


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [("linear", [0.25, 0.5]), ("cubic", [0.4375, 0.5]), ("geometric", [1 - 0.5**0.5, 0.5])],
)
def test_schedules(schedule, shares):
    block = Repeat(times=2, schedule=schedule, stages=("prune",))
    assert [block.progress(time)(0.5) for time in (1, 2)] == pytest.approx(shares)


@pytest.mark.parametrize(
    ("target", "field", "values"),
    [
        ("macs: 0.4", "macs", [0.8, 0.6, 0.4]),
        ("layers: {a: 0.3, b: 0.6}", "layers", [{"a": 0.1, "b": 0.2}, {"a": 0.2, "b": 0.4}, {"a": 0.3, "b": 0.6}]),
    ],
)
def test_targets_and_patterns_are_reached_in_steps(repeated, target, field, values):
    steps = repeated(old="ratio: 0.6", new=target).steps
    for step, value in zip((s for s in steps if s.stage == "prune"), values, strict=True):
        assert getattr(step.config, field) == pytest.approx(value)


@pytest.mark.parametrize(
    ("old", "new", "what", "hint"),
    [
        ("times: 3", "times: 0", "repeat.times: 0", None),
        ("times: 3\n      ", "", "repeat.times: is missing", None),
        ("linear", "quadratic", '"quadratic" is not allowed', "cubic"),
        ("- prune:", "- prun:", "no stage is called 'prun'", "prune"),
        ("ratio: 0.6", "ration: 0.6", "repeat.stages[0].prune.ration: unknown key", "ratio"),
        ("ratio: 0.6", "thresholds: {a: 1.0}", "thresholds can't be reached in steps", None),
        ("ratio: 0.6", "params: 1000", "params can be reached in steps as a fraction only", None),
        ("- prune: {ratio: 0.6, round_to: 4}", "- repeat: {times: 2, stages: [prune]}", "can't stand inside", None),
    ],
)
def test_mistakes_inside_a_repeat_are_named(repeated, old, new, what, hint):
    with pytest.raises(RecipeError) as caught:
        repeated(old=old, new=new)
    assert what in caught.value.what
    assert "recipe.yaml:" in caught.value.where
    assert hint is None or hint in caught.value.hint


def test_a_stage_that_occurs_twice_is_numbered(recipe_file, load):
    recipe = load(recipe_file, ("  - strip\n", "  - prune: {ratio: 0.2}\n  - strip\n"))
    assert [step.id for step in recipe.steps if step.stage == "prune"] == ["prune[1]", "prune[2]"]
