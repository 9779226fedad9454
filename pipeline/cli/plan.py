"""Implement `secateur plan`."""

from __future__ import annotations

from pipeline.cli.options import (
    ForceOption,
    JsonOption,
    RecipeArgument,
    SetOption,
    StoreOption,
    UntilOption,
    open_store,
    print_json,
)
from pipeline.planning.plan import make_plan
from pipeline.recipe.recipe import Recipe


def command(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    store: StoreOption = None,
    until: UntilOption = None,
    force_from: ForceOption = None,
    as_json: JsonOption = False,
) -> None:
    plan = make_plan(Recipe.load(recipe, tuple(overrides or ())), open_store(store), until, force_from)
    if as_json:
        print_json(plan)
        return
    width = max(len(action.id) for action in plan.actions)
    for action in plan.actions:
        reason = "" if action.status == "hit" else action.reason
        print(f"{action.id.ljust(width)}  {action.status:6}  {reason}".rstrip())
