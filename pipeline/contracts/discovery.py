"""Which stages, commands and targets there are: those named in entry-point groups, ours and anybody's."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pipeline.errors import SecateurError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline.contracts.stage import AnyStage

STAGES_GROUP, COMMANDS_GROUP = "secateur.stages", "secateur.commands"
TARGETS_GROUP = "secateur.targets"


@cache
def stages() -> Mapping[str, AnyStage]:
    """All installed stages by name. Importing them brings in neither TensorFlow nor numpy."""
    found: dict[str, AnyStage] = {}
    for point in entry_points(group=STAGES_GROUP):
        try:
            found[point.name] = point.load()()
        except ImportError as error:
            raise SecateurError(
                f"the stage {point.name} can't be loaded: {error}",
                where=point.value,
                hint="install its package again, or remove it",
            ) from error
    return MappingProxyType(found)


def command_modules() -> Mapping[str, str]:
    """Commands that are not the engine's own: the module of each, which has a `command` with a docstring."""
    return {point.name: point.value for point in entry_points(group=COMMANDS_GROUP)}


@cache
def target_drivers() -> Mapping[str, Callable[[], Any]]:
    """What drives each kind of benchmark target, by the kind's name; importing happens when one is called."""
    return {point.name: cache(lambda point=point: point.load()()) for point in entry_points(group=TARGETS_GROUP)}
