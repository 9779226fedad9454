"""secateur's engine: recipes, typed artifacts, the store, plans, runs and the command line.

`from pipeline import Recipe, run` is the library's front door; see `pipeline.runner.run`. Both are brought in when they
are asked for: importing a module of this package does not import all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.recipe import Recipe as Recipe
    from pipeline.runner import run as run

__all__ = ["Recipe", "run"]


def __getattr__(name: str) -> Any:
    if name == "Recipe":
        from pipeline.recipe import Recipe

        return Recipe
    if name == "run":
        from pipeline.runner import run

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
