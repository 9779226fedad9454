"""The recipe: what the user writes, read strictly, before TensorFlow is imported.

Every mistake is a RecipeError with file, line, key path, the value, what is allowed, and the nearest name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, StringConstraints, ValidationError, model_validator

from pipeline.data import DataSpec
from pipeline.discovery import stages
from pipeline.errors import RecipeError
from pipeline.keys import digest_of
from pipeline.recipe_errors import explain, nearest
from pipeline.recipe_set import apply_override
from pipeline.stage import StageConfig
from pipeline.values import Value
from pipeline.yaml_source import Source, read_yaml


class Head(Value):
    """The classifier put onto an application without its top."""

    classes: int = Field(ge=2)


class Application(Value):
    """A model of `tf_keras.applications`, by name."""

    application: str
    weights: Literal["imagenet"] | None = "imagenet"
    include_top: bool = True
    input_shape: tuple[int, int, int] | None = None
    head: Head | None = None

    @model_validator(mode="after")
    def _one_top(self) -> Self:
        if self.head is not None and self.include_top:
            raise ValueError("head needs include_top: false")
        return self


class Gate(Value):
    """A bound on a metric; at least one of `max` and `min`."""

    metric: str
    max: float | None = None
    min: float | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.max is None and self.min is None:
            raise ValueError("a gate needs max or min")
        return self


class RecipeFields(Value):
    """The recipe's top level; what stands under a stage's name is checked by that stage."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
    seed: int = Field(default=0, ge=0, lt=2**32)
    threads: int = Field(default=2, ge=1, le=1024)
    model: Path | Application
    data: DataSpec | None = None
    control: bool = False
    stages: tuple[Any, ...] = Field(min_length=1)
    gates: tuple[Gate, ...] = ()


@dataclass(frozen=True, slots=True)
class StageStep:
    """One entry of the recipe's `stages`: its id (`prune`, or `prune[2]` where it is not the only one)."""

    id: str
    stage: str
    config: StageConfig
    index: int


@dataclass(frozen=True)
class Recipe:
    """A valid recipe. `folder` is what relative paths in it start from."""

    name: str
    seed: int
    threads: int
    model: Path | Application
    data: DataSpec | None
    control: bool
    steps: tuple[StageStep, ...]
    gates: tuple[Gate, ...]
    folder: Path
    digest: str
    source: Source

    @classmethod
    def load(cls, path: str | Path, overrides: tuple[str, ...] = ()) -> Recipe:
        """Read and check a recipe file; `overrides` are `stages.prune.ratio=0.3` and the like, applied in order."""
        source = read_yaml(Path(path))
        for override in overrides:
            apply_override(source, override)
        fields = _validate(RecipeFields, source.data, (), source)
        steps = _steps(source)
        return cls(
            name=fields.name,
            seed=fields.seed,
            threads=fields.threads,
            model=fields.model,
            data=fields.data,
            control=fields.control,
            steps=steps,
            gates=fields.gates,
            folder=Path(path).resolve().parent,
            digest=digest_of("recipe", source.data),
            source=source,
        )


V = TypeVar("V", bound=Value)


def _validate(kind: type[V], data: Any, path: tuple[str | int, ...], source: Source) -> V:
    try:
        return kind.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise explain(error, kind, data, path, source) from error


def _steps(source: Source) -> tuple[StageStep, ...]:
    entries = [_entry(raw, index, source) for index, raw in enumerate(source.data["stages"])]
    names = [name for name, _ in entries]
    steps, seen = [], dict.fromkeys(names, 0)
    for index, (name, settings) in enumerate(entries):
        seen[name] += 1
        config = _validate(stages()[name].config, settings, ("stages", index, name), source)
        steps.append(StageStep(name if names.count(name) == 1 else f"{name}[{seen[name]}]", name, config, index))
    return tuple(steps)


def _entry(raw: Any, index: int, source: Source) -> tuple[str, Any]:
    settings: Any
    where = source.where(("stages", index))
    if isinstance(raw, str):
        name, settings = raw, {}
    elif isinstance(raw, dict) and len(raw) == 1:
        name, settings = next(iter(raw.items()))
        settings = {} if settings is None else settings
    else:
        raise RecipeError(
            "a stage is a name, or a map with one key", where=where, hint="such as `- prune: {ratio: 0.5}`"
        )
    if name not in stages() or name == "evaluate":
        known = sorted(set(stages()) - {"evaluate"})
        raise RecipeError(f"no stage is called {name!r}", where=where, hint=nearest(name, known))
    return name, settings
