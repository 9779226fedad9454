"""secateur's engine: recipes, typed artifacts, the store, plans, runs and the command line.

`from pipeline import Recipe, run` is the library's front door; see `pipeline.runner.run`.
"""

from pipeline.recipe import Recipe
from pipeline.runner import run

__all__ = ["Recipe", "run"]
