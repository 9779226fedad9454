"""Find stages, commands and targets: those named in entry-point groups, ours and third-party ones."""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pipeline.errors import SecateurError
from pipeline.system.installed import points_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline.contracts.stage import AnyStage

STAGES_GROUP, COMMANDS_GROUP = "secateur.stages", "secateur.commands"
TARGETS_GROUP = "secateur.targets"


@cache
def stages() -> Mapping[str, AnyStage]:
    """Return all installed stages by name. Importing them imports neither TensorFlow nor numpy."""
    found: dict[str, AnyStage] = {}
    for point in points_of(STAGES_GROUP):
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
    """Map commands outside the engine to their modules; each module has a `command` with a docstring."""
    return {point.name: point.value for point in points_of(COMMANDS_GROUP)}


@cache
def target_drivers() -> Mapping[str, Callable[[], Any]]:
    """Map each kind of benchmark target to the factory of its driver, which is imported when it is called."""
    return {point.name: cache(lambda point=point: point.load()()) for point in points_of(TARGETS_GROUP)}
