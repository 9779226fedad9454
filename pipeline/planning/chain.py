"""Define the parts of a plan: nodes, where their inputs come from, and the branches of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import MakesKindByAxis, MakesKindsBySettings, NamesTargets
from pipeline.contracts.stage import StageConfig, Upstream
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


Origin = OutputOf | SplitOf | CodeOf | ModelFile


@dataclass(frozen=True)
class Node:
    """Describe one planned action: `name` is the NAME of its flat metrics, `step` the recipe's entry it comes from."""

    id: str
    stage: str
    axis: str | None
    config: StageConfig
    inputs: dict[str, Origin]
    name: str | None
    step: int
    can_be_left_out: bool = False  # if it turns out to be impossible

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the targets that its settings name."""
        return targets_of(self.stage, self.config)


@dataclass(frozen=True)
class Branch:
    """Track what a node makes, and what it was made from; `element` is its own part of its place on the axes."""

    node: Node
    element: str | None = None
    parent: Branch | None = None

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """Return the kinds of artifacts that the node makes."""
        stage = stages()[self.node.stage]
        if isinstance(stage, MakesKindsBySettings):
            return stage.kinds_for(self.node.config)
        return (stage.kind_for(str(self.node.axis)),) if isinstance(stage, MakesKindByAxis) else stage.outputs

    def lineage(self) -> Iterator[Branch]:
        """Yield this branch, and those it was made from, the nearest first."""
        branch: Branch | None = self
        while branch is not None:
            yield branch
            branch = branch.parent

    def output(self, kinds: Sequence[Kind]) -> OutputOf | None:
        """Return the node's output of one of these kinds, if it has one."""
        kind = next((kind for kind in self.kinds if kind in kinds), None)
        return OutputOf(self.node.id, kind) if kind is not None else None

    def upstream(self, kinds: Sequence[Kind]) -> Upstream:
        """Describe this branch to a stage that would take one of these kinds."""
        # The farthest first: of several stages that made a kind, the nearest one's settings stay.
        settings = {kind: branch.node.config for branch in reversed([*self.lineage()]) for kind in branch.kinds}
        return Upstream(next((kind for kind in self.kinds if kind in kinds), self.kinds[0]), settings)


@dataclass
class Chain:
    """Hold the actions of a recipe in the order in which they run, and the branches that later steps can take."""

    recipe: Recipe
    nodes: list[Node] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)
    source: Branch | None = None
    control: Branch | None = None
    baselines: dict[str, Branch] = field(default_factory=dict)  # by the id of the node
    skipped: dict[str, str] = field(default_factory=dict)  # places on the axes left out, with the reason

    def add(self, node: Node) -> Node:
        if node.name is not None and any((node.stage, node.name) == (n.stage, n.name) for n in self.nodes):
            step = self.recipe.steps[node.step]
            what = f"{node.stage} has made {node.name} before, and one name can't stand for two results"
            raise error_at(self.recipe, step, what, "one recipe exports, verifies and measures each pair once")
        self.nodes.append(node)
        return node

    def replace(self, kinds: Sequence[Kind], made: Sequence[Branch]) -> None:
        """Take the results of a step whose stage can make these kinds, in place of earlier ones of these kinds."""
        kept = [branch for branch in self.branches if not set(branch.kinds) & set(kinds)]
        self.branches = [*kept, *made]

    def names(self) -> list[str]:
        """Return all NAMEs that metrics can have, each once."""
        return list(dict.fromkeys(node.name for node in self.nodes if node.name is not None))


def error_at(recipe: Recipe, step: StageStep, what: str, hint: str | None) -> RecipeError:
    """Return an error located at a step of the recipe."""
    return RecipeError(what, where=recipe.source.where(step.path), hint=hint)


def targets_of(stage: str, config: StageConfig) -> tuple[str, ...]:
    """Return the targets that the settings of a stage name."""
    implementation = stages()[stage]
    return implementation.targets_of(config) if isinstance(implementation, NamesTargets) else ()


def where_of_target(recipe: Recipe, step: StageStep, stage: str, config: StageConfig) -> str:
    """Locate the target of an action of `stage` in a recipe's step; if the step names none, locate the step."""
    named = targets_of(stage, config)
    return recipe.source.where_is(named[0], step.path) if named else recipe.source.where(step.path)


def by_element(config: StageConfig, setting: str) -> Mapping[str, StageConfig]:
    """Return settings for each element of the one that fans out separately, by the element's name."""
    return config.by_element() or {
        name: config.model_copy(update={setting: (name,)}) for name in getattr(config, setting)
    }
