"""Say where the recipes of a study run: here, one after another, or wherever a `Workers` sends them.

Results are the same wherever they were made: all workers share one store, and what two recipes share is made once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol

from pipeline.contracts.events import Event
from pipeline.errors import SecateurError
from pipeline.recipe.recipe import Recipe
from pipeline.records.manifest import RunManifest
from pipeline.running.run import run
from pipeline.store import Store

StudyListener = Callable[[int, Event], None]  # the recipe's position, and what happened in its run


def unheard(_index: int, _event: Event) -> None:
    """Ignore all events."""


class Workers(Protocol):
    """Run recipes somewhere, against one store; `side_by_side` tells whether several run at the same time."""

    side_by_side: ClassVar[bool]

    def run(
        self, recipes: Sequence[Recipe], until: str | None = None, listener: StudyListener = unheard
    ) -> Iterator[tuple[int, RunManifest | SecateurError]]:
        """Run recipes, up to the stage `until` if it is given, and yield how each ended, as they end.

        Each is yielded once, by its position in `recipes`: the manifest of its run, which is in the store as well; or,
        if it could not be run to its end, the error, whose `manifest` is that of the run if one was begun. Whatever
        ends all recipes alike is raised instead, such as a cluster that is away.
        """
        ...


@dataclass(frozen=True)
class Here:
    """Run recipes in this process, one after another, in their order."""

    store: Store
    side_by_side: ClassVar[bool] = False

    def run(
        self, recipes: Sequence[Recipe], until: str | None = None, listener: StudyListener = unheard
    ) -> Iterator[tuple[int, RunManifest | SecateurError]]:
        """Run each recipe as `secateur run` does."""
        for index, recipe in enumerate(recipes):
            try:
                ended: RunManifest | SecateurError = run(
                    recipe, self.store.root, until=until, listener=partial(listener, index)
                )
            except SecateurError as error:
                ended = error
            yield index, ended
