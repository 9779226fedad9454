"""Read the recipe, what the user writes, strictly, before TensorFlow is imported.

Every mistake is a RecipeError with file, line, key path, the value, what is allowed, and the nearest name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator

from pipeline.data import DataSpec
from pipeline.recipe.errors import validate
from pipeline.recipe.model_spec import Model, ModelSource
from pipeline.recipe.overrides import apply_override
from pipeline.recipe.search_spec import SearchSpec, SweepSpec
from pipeline.recipe.steps import StageStep, read_steps
from pipeline.recipe.yaml_source import YamlSource, read_yaml
from pipeline.records.keys import digest_of
from pipeline.records.values import Value

STUDY = ("search", "sweep")  # say nothing about this recipe's own run


class Gate(Value):
    """Bound a metric; at least one of `max` and `min` is set."""

    metric: str
    max: float | None = None
    min: float | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.max is None and self.min is None:
            raise ValueError("a gate needs max or min")
        return self


class Control(Value):
    """Also train yardsticks, beside which the pruned model is judged: the unpruned source, exactly as the recipe does.

    `narrow` adds the network that costs as much as the pruned one without any pruning: every group of channels keeps
    the same share, and the weights are random. It is trained like the recipe's last training, for as many steps as all
    its trainings together. How long the source was trained before is not known here: `source_epochs` says it.
    """

    narrow: bool = Field(default=False, description="also train a uniformly narrower network from scratch")
    source_epochs: int = Field(
        default=0, ge=0, description="epochs that the source itself was trained for: the narrow network gets them too"
    )

    @model_validator(mode="after")
    def _of_the_narrow_one(self) -> Self:
        if self.source_epochs and not self.narrow:
            raise ValueError("source_epochs is for narrow: true")
        return self


class RecipeFields(Value):
    """Hold the recipe's top level; each stage checks the settings under its name."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
    seed: int = Field(
        default=0, ge=0, lt=2**32
    )  # what `keras.utils.set_random_seed` takes, since numpy's seeds end there
    threads: int = Field(default=2, ge=1, le=1024)
    model: ModelSource
    data: DataSpec | None = None
    control: bool | Control = False
    stages: tuple[Any, ...] = Field(min_length=1)
    gates: tuple[Gate, ...] = ()
    search: SearchSpec | None = Field(None, description="what `secateur search` looks for; `run` does not look at it")
    sweep: SweepSpec | None = Field(None, description="the recipes that `secateur search` runs instead")

    @model_validator(mode="after")
    def _one_study(self) -> Self:
        if self.search is not None and self.sweep is not None:
            raise ValueError("search and sweep are two studies: keep one of them")
        return self


@dataclass(frozen=True)
class Recipe:
    """Hold a valid recipe. Relative paths in it start from `folder`."""

    name: str
    seed: int
    threads: int
    model: Model
    data: DataSpec | None
    control: bool | Control
    steps: tuple[StageStep, ...]
    gates: tuple[Gate, ...]
    search: SearchSpec | None
    sweep: SweepSpec | None
    folder: Path
    digest: str
    source: YamlSource

    @classmethod
    def load(cls, path: str | Path, overrides: tuple[str, ...] = ()) -> Recipe:
        """Read and check a recipe file; `overrides` are `stages.prune.ratio=0.3` and the like, applied in order."""
        source = read_yaml(Path(path))
        for override in overrides:
            apply_override(source, override)
        fields = validate(RecipeFields, source.data, (), source)
        steps = read_steps(source)
        return cls(
            name=fields.name,
            seed=fields.seed,
            threads=fields.threads,
            model=fields.model,
            data=fields.data,
            control=fields.control,
            steps=steps,
            gates=fields.gates,
            search=fields.search,
            sweep=fields.sweep,
            folder=Path(path).resolve().parent,
            digest=digest_of("recipe", {key: value for key, value in source.data.items() if key not in STUDY}),
            source=source,
        )

    @property
    def source_epochs(self) -> int | None:
        """Return the source's epochs that count for a narrower network; None if the recipe asks for no such network."""
        control = self.control
        return control.source_epochs if isinstance(control, Control) and control.narrow else None

    def place_of(self, where: str | None, index: int) -> str | None:
        """Locate in the file the setting that a stage's error names, such as `prune.exclude`; else return `where`."""
        first, *keys = (where or "").split(".")
        step = next((step for step in self.steps if step.index == index), None)
        if step is not None and first == step.stage:
            return self.source.where((*step.path, first, *keys))
        return self.source.where((first, *keys)) if first in ("data", "model", "threads", "control") else where
