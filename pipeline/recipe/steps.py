"""Read the recipe's `stages`: names, maps with one key, and `repeat` blocks, expanded to the steps they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from pydantic import Field

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import Follows, Narrows, OpensModel
from pipeline.contracts.stage import AnyStage, StageConfig
from pipeline.errors import RecipeError
from pipeline.recipe.errors import nearest, validate
from pipeline.recipe.yaml_source import Path, YamlSource
from pipeline.records.values import Json, Value

REPEAT = "repeat"


class Repeat(Value):
    """Repeat a block of stages, each time removing more, until everything requested is removed.

    Schedules, after k of n times: `linear` has removed k/n of it; `cubic` 1-(1-k/n)³, most at first, while the network
    can still recover (Zhu and Gupta, "To prune, or not to prune", 2017); `geometric` removes the same share of what is
    left each time.
    """

    times: int = Field(ge=1, le=100)
    schedule: Literal["linear", "cubic", "geometric"] = "cubic"
    stages: tuple[Any, ...] = Field(min_length=1)

    def progress(self, time: int) -> Callable[[float], float]:
        """Map the share to remove in the end to the share removed after repetition `time`."""
        done = time / self.times
        match self.schedule:
            case "linear":
                return lambda share: share * done
            case "cubic":
                return lambda share: share * (1 - (1 - done) ** 3)
            case "geometric":
                return lambda share: 1 - (1 - share) ** done


@dataclass(frozen=True, slots=True)
class StageStep:
    """Describe one stage to run: its id (`prune`, or `prune[2]` if there are several), its place among the steps.

    `path` is its place in the recipe.
    """

    id: str
    stage: str
    config: StageConfig
    index: int
    path: Path


def read_steps(source: YamlSource) -> tuple[StageStep, ...]:
    """Return the steps of a recipe, `repeat` blocks expanded; RecipeError if an entry is not a stage or is invalid."""
    entries = list(_expanded(source))
    names = [name for name, _, _ in entries]
    steps, seen = [], dict.fromkeys(names, 0)
    for index, (name, config, path) in enumerate(entries):
        seen[name] += 1
        steps.append(StageStep(name if names.count(name) == 1 else f"{name}[{seen[name]}]", name, config, index, path))
    return tuple(steps)


def _expanded(source: YamlSource) -> Iterator[tuple[str, StageConfig, Path]]:
    for index, raw in enumerate(source.data["stages"]):
        path: Path = ("stages", index)
        name, settings = _entry(raw, path, source)
        if name != REPEAT:
            yield name, _config(name, settings, path, source), path
            continue
        block = validate(Repeat, settings, (*path, REPEAT), source)
        inner = []
        for position, raw_stage in enumerate(block.stages):
            path_inside = (*path, REPEAT, "stages", position)
            stage, its_settings = _entry(raw_stage, path_inside, source)
            if stage == REPEAT:
                raise RecipeError("a repeat can't stand inside a repeat", where=source.where(path_inside))
            inner.append((stage, _config(stage, its_settings, path_inside, source), path_inside))
        for time in range(1, block.times + 1):
            for stage, config, path_inside in inner:
                try:
                    yield stage, config.at_step(block.progress(time)), path_inside
                except ValueError as error:
                    raise RecipeError(str(error), where=source.where((*path_inside, stage))) from error


def _config(name: str, settings: Json, path: Path, source: YamlSource) -> StageConfig:
    return validate(stages()[name].config, settings, (*path, name), source)


def _entry(raw: Json, path: Path, source: YamlSource) -> tuple[str, Json]:
    settings: Json
    where = source.where(path)
    if isinstance(raw, str):
        name, settings = raw, {}
    elif isinstance(raw, dict) and len(raw) == 1:
        name, settings = next(iter(raw.items()))
        settings = {} if settings is None else settings
    else:
        raise RecipeError(
            "a stage is a name, or a map with one key", where=where, hint="such as `- prune: {ratio: 0.5}`"
        )
    known = names_of_entries()
    if name not in known:
        raise RecipeError(f"no stage is called {name!r}", where=where, hint=nearest(name, known))
    return name, settings


@cache
def names_of_entries() -> tuple[str, ...]:
    """Return what an entry can be: the stages that open a model or run on a branch of it, and `repeat`.

    Others are added by the planner, or other stages ask for them.
    """
    named = [name for name, stage in stages().items() if _can_be_named(stage)]
    return tuple(sorted([*named, REPEAT]))


def _can_be_named(stage: AnyStage) -> bool:
    takes_a_branch = any(wanted.of == "branch" for wanted in stage.inputs.values())
    return isinstance(stage, OpensModel) or (takes_a_branch and not isinstance(stage, Follows | Narrows))
