"""Define the parts of a plan: nodes, where their inputs come from, and the branches of a model."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.contracts.stage import StageConfig
from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.steps import StageStep
from pipeline.records.artifacts import Kind


@dataclass(frozen=True, slots=True)
class OutputOf:
    """Refer to an input that another node makes."""

    node: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class SplitOf:
    """Refer to an input that is a data split."""

    split: str


@dataclass(frozen=True, slots=True)
class CodeOf:
    """Refer to an input that is a user module next to the recipe: `module:function` names a function of it."""

    reference: str


@dataclass(frozen=True, slots=True)
class ModelFile:
    """Refer to an input that is a file of the recipe's model, by its role in `pipeline.recipe.model_files`."""

    role: str


SOURCE, TEACHER, REFERENCE = "source", "teacher", "reference"
Source = OutputOf | SplitOf | CodeOf | ModelFile


@dataclass(frozen=True)
class Node:
    """Describe one planned action: `name` is the NAME of its flat metrics, `step` the recipe's entry it comes from."""

    id: str
    stage: str
    axis: str | None
    config: StageConfig
    inputs: dict[str, Source]
    name: str | None
    step: int
    can_be_left_out: bool = False  # if it turns out to be impossible


@dataclass(frozen=True, slots=True)
class Branch:
    """Track a model through the recipe: the node that made it, and its place on the axes so far."""

    node: str
    axis: str | None
    reference: str | None = None  # the Keras model that was quantized
    config: StageConfig | None = None  # how it was quantized


@dataclass
class Chain:
    """Hold the actions of a recipe in the order in which they run."""

    recipe: Recipe
    nodes: list[Node] = field(default_factory=list)
    model: str = ""  # the node that made the current Keras model
    quantized: list[Branch] = field(default_factory=list)
    exported: list[Branch] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # axis elements left out, with the reason
    control: str | None = None

    def add(self, node: Node) -> str:
        if node.name is not None and any((node.stage, node.name) == (n.stage, n.name) for n in self.nodes):
            step = self.recipe.steps[node.step]
            what = f"{node.stage} has made {node.name} before, and one name can't stand for two results"
            raise error_at(self.recipe, step, what, "one recipe exports, verifies and measures each pair once")
        self.nodes.append(node)
        return node.id

    def names(self) -> list[str]:
        """Return all NAMEs that metrics can have, each once."""
        return list(dict.fromkeys(node.name for node in self.nodes if node.name is not None))


def error_at(recipe: Recipe, step: StageStep, what: str, hint: str | None) -> RecipeError:
    """Return an error located at a step of the recipe."""
    return RecipeError(what, where=recipe.source.where(step.path), hint=hint)
