"""Find stages, commands and targets: those named in entry-point groups, ours and third-party ones."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.records.declared import STAGES_GROUP, TARGETS_GROUP, metrics_of_stages
from pipeline.system.plugins import instances_of, named_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline.contracts.stage import AnyStage

COMMANDS_GROUP = "secateur.commands"


@cache
def stages() -> Mapping[str, AnyStage]:
    """Return all installed stages by name. Importing them imports neither TensorFlow nor numpy."""
    metrics_of_stages()  # or a metric that a stage declares wrongly would be found at the end of a run
    return instances_of(STAGES_GROUP, "stage")


def command_modules() -> Mapping[str, str]:
    """Map commands outside the engine to their modules; each module has a `command` with a docstring."""
    return {point.name: point.value for point in named_in(COMMANDS_GROUP)}


@cache
def target_drivers() -> Mapping[str, Callable[[], Any]]:
    """Map each kind of benchmark target to the factory of its driver, which is imported when it is called."""
    return {point.name: cache(lambda point=point: point.load()()) for point in named_in(TARGETS_GROUP)}
