"""Provide secateur's engine: recipes, typed artifacts, the store, plans, runs and the command line.

`from pipeline import Recipe, run` is the library's entry point; see `pipeline.running.run.run`. Both are imported on
first use: importing one module of this package does not import all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.recipe.recipe import Recipe as Recipe
    from pipeline.running.run import run as run

__all__ = ["Recipe", "run"]


def __getattr__(name: str) -> Any:
    if name == "Recipe":
        from pipeline.recipe.recipe import Recipe

        return Recipe
    if name == "run":
        from pipeline.running.run import run

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
