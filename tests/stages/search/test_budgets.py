from __future__ import annotations

from pipeline.recipe.recipe import Recipe
from stages.search.budgets import budgets_of
from stages.search.candidates import Candidate
from stages.search.foreseen import Foreseen


def foreseen(left):
    settings = {"stages.prune.macs": left}
    return Foreseen(name=f"macs {left}", settings=settings, budget=left, share=left, error=1 - left, agreement=None)


def test_each_budget_has_a_recipe_and_tells_how_far_it_got(searched, trial, answer, tmp_path):
    base = Candidate(searched().source.file, {})
    point = answer.points[1].model_copy(update={"settings": {"stages.prune.macs": 0.4}})
    trials = [trial(0, 0.4, fitted=0.7, measured=0.8), trial(1, 0.5, fitted=0.75)]
    lefts = [foreseen(left) for left in (0.3, 0.4, 0.5)]
    budgets = list(budgets_of(base, lefts, trials, [point], {"control": False}, tmp_path))
    told = [(one.foreseen.budget, one.level, one.accuracy, one.letter) for one in budgets]
    assert told == [(0.5, "fitted", 0.75, None), (0.4, "measured", 0.8, "B"), (0.3, None, None, None)]
    assert budgets[1].recipe == point.recipe
    assert sorted(path.name for path in tmp_path.glob("macs*")) == ["macs-0.3.yaml", "macs-0.5.yaml"]
    recipe = Recipe.load(budgets[2].recipe)
    assert recipe.control is False
    assert next(step.config.macs for step in recipe.steps if step.stage == "prune") == 0.3
