"""Search for the best recipe like this one (`secateur search`)."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.cli.options import JsonOption, RecipeArgument, SetOption, StoreOption, open_store
from pipeline.recipe.recipe import Recipe
from stages.search.candidates import Base


def command(
    recipe: RecipeArgument, overrides: SetOption = None, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Find the fastest recipe like this one that keeps its accuracy."""
    from stages.search.study import Study
    from stages.search.workers import Here

    said = tuple(overrides or ())
    base = Base(Path(recipe), said, Recipe.load(recipe, said))
    opened = open_store(store)
    study = Study(
        base,
        opened,
        Here(opened),
        lambda s: print(
            s.phase,
            s.trials,
            s.trained,
            s.pruned,
            s.failed,
            s.running,
            s.best and s.best.settings,
            round(s.left_s),
            file=sys.stderr,
            flush=True,
        ),
        lambda i, e: None,
    )
    found = study.run()
    print(found.source, found.control, found.seconds)
    for t in found.trials:
        print(t.model_dump_json())
    print("FINAL")
    for t in found.finalists:
        print(t.model_dump_json())
