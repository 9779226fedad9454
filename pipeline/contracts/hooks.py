"""Declare what a stage can do besides running: one Protocol each, asked by isinstance where it matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from pipeline.contracts.stage import StageConfig, Upstream
from pipeline.data.samples import Task
from pipeline.data.spec import DataSpec, Metrics
from pipeline.records.artifacts import Kind
from pipeline.records.metrics import Metric

if TYPE_CHECKING:
    from pipeline.recipe.model_spec import Model
    from pipeline.store.file_digests import FileDigests


@runtime_checkable
class DependsByAxis(Protocol):
    """Mark a stage that needs different packages for different elements of its axis; `packages` names all of them."""

    def packages_for(self, axis: str | None) -> tuple[str, ...]:
        """Return the distributions whose versions enter the key of an action for this element."""


@runtime_checkable
class DependsBySettings(Protocol):
    """Mark a stage that under some settings needs packages besides those that `packages` names."""

    def packages_of(self, config: Any) -> tuple[str, ...]:
        """Return these distributions: their versions enter the key too."""


@runtime_checkable
class DependsOnDevice(Protocol):
    """Mark a stage whose results depend on a device."""

    def device(self, config: Any, folder: Path, axis: str | None) -> Mapping[str, str] | None:
        """Return the device's fingerprint, which enters the key of an action; None if its settings use no device.

        RecipeError where there is no such device, DeviceError where it is not set up.
        """


@runtime_checkable
class NamesTargets(Protocol):
    """Mark a stage whose settings name targets."""

    def targets_of(self, config: Any) -> tuple[str, ...]:
        """Return the targets that these settings name."""


@runtime_checkable
class MeasuresOnTarget(NamesTargets, Protocol):
    """Mark a stage that measures files on a target."""

    def metrics_on(self, config: Any, folder: Path) -> tuple[Metric, ...]:
        """Return the metrics that a result on the target of these settings can have."""

    def extended(self, config: Any, folder: Path) -> StageConfig | None:
        """Return settings for one longer measurement if a gate is undecided; None if that would not help."""

    def remark(self, target: str, folder: Path) -> str | None:
        """Return what the user should know about the target that this name resolves to, if anything."""


@runtime_checkable
class ExplainsSlowness(Protocol):
    """Mark a stage that can tell which operators make a file slow."""

    def explaining(self, config: Any, axis: str, folder: Path) -> StageConfig | None:
        """Return settings that add the operators to a measurement at this place on the axes; None if none do."""


@runtime_checkable
class Refuses(Protocol):
    """Mark a stage that can't take every artifact of the kinds that it accepts."""

    def refuses(self, config: Any, axis: str, upstream: Upstream, folder: Path) -> str | None:
        """Return why there can't be an action at this place on the axes, or None; asked before anything runs.

        RecipeError where the settings name something that does not exist.
        """


@runtime_checkable
class SkipsUnsupported(Protocol):
    """Mark settings that say what happens to a refused action; without it, the action is left out with a note."""

    @property
    def unsupported(self) -> Literal["refuse", "skip"]:
        """Return whether the recipe is refused, or the action skipped."""


@runtime_checkable
class MakesKindByAxis(Protocol):
    """Mark a stage whose actions make one of its `outputs` each, by their place on the axis."""

    def kind_for(self, axis: str) -> Kind:
        """Return the kind of artifact that an action at this place makes."""


@runtime_checkable
class MakesKindsBySettings(Protocol):
    """Mark a stage that makes only some of its `outputs`, by its settings."""

    def kinds_for(self, config: Any) -> tuple[Kind, ...]:
        """Return the kinds of artifacts that an action with these settings makes, or may make."""


@runtime_checkable
class OpensModel(Protocol):
    """Mark a stage that opens the model that the recipe names: recipes begin with it."""

    def opening(self, model: Model) -> StageConfig:
        """Return the settings for this model."""


@runtime_checkable
class FillsFromData(Protocol):
    """Mark a stage with settings that come from the recipe's data where the recipe leaves them open."""

    def filled(self, config: Any, data: DataSpec, folder: Path) -> StageConfig:
        """Return the settings with these filled in."""


@runtime_checkable
class NamesMetrics(Protocol):
    """Mark settings that name metrics; those that are functions of the user enter the keys by their code."""

    @property
    def metrics(self) -> Metrics | None:
        """Return the metrics, by output if there are several; None for those that fit the data."""


@runtime_checkable
class MeasuresByTask(Protocol):
    """Mark a stage whose metrics from labels depend on what targets are."""

    def measured(self, config: Any, task: Task, output: str | None) -> tuple[str, ...]:
        """Return the metrics, without output, that an output of this task has; `output` is None for a single one."""


@runtime_checkable
class Follows(Protocol):
    """Mark a stage that recipes do not name: an action of it is added after each named result of a kind."""

    follows: ClassVar[Kind]

    def following(self, data: DataSpec | None, *, source: bool) -> StageConfig | None:
        """Return the settings for the recipe's data, after the `source` or another result; None to add nothing."""


@runtime_checkable
class TreatsControl(Protocol):
    """Mark a stage that is also run on the unpruned source if the recipe asks for a control."""

    def for_control(self, config: Any) -> StageConfig:
        """Return the settings for the control: these, without what only prepares the model for a cut."""


@runtime_checkable
class Narrows(Protocol):
    """Mark a stage that recipes do not name: it makes the source uniformly narrower, as costly as a pruned model.

    An action of it is added if the recipe asks for `control: {narrow: true}`; what it makes is not trained.
    """

    def narrowing(self, pruning: Any) -> StageConfig | None:
        """Return its settings beside a stage with the settings `pruning`; None if these take no channels away."""


@runtime_checkable
class TrainsFromScratch(Protocol):
    """Mark a stage that can also train a network whose weights are random."""

    def from_scratch(self, trainings: Sequence[Any], source_epochs: int) -> StageConfig:
        """Return the settings of one training that takes as many steps as all `trainings` of this stage together.

        `source_epochs` of the source's own training are added.
        """


@runtime_checkable
class HasBaseline(Protocol):
    """Mark a stage that treats a baseline in one way, whatever the recipe says; others treat it like the branch."""

    def baseline(self) -> StageConfig:
        """Return the settings for the baseline."""


@runtime_checkable
class NeedsLabels(Protocol):
    """Mark a stage that needs labels under some settings."""

    def labels_for(self, config: Any) -> tuple[str, str] | None:
        """Return what needs labels, and what to do without them; None if nothing does."""


@runtime_checkable
class AsksForSamples(Protocol):
    """Mark a stage that may need the shapes of the data's samples before it runs."""

    def asks_for_samples(self, config: Any, files: Mapping[str, Path], digests: FileDigests) -> bool:
        """Return whether its result on these files depends on the shapes of the samples."""


@runtime_checkable
class Prepares(Protocol):
    """Mark a stage that can start some work ahead of time."""

    def prepare(self, config: Any, threads: int) -> None:
        """Start that work: returns at once, and may be called repeatedly."""
