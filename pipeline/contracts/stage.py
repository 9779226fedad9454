"""Define the contract of a stage: a named, versioned function from typed artifacts to typed artifacts.

A stage is a class typed by a Protocol and named by one line under the entry-point group `secateur.stages`. What that
line loads imports neither TensorFlow nor numpy at its top, because plans and cached runs never need them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, TypeVar

from pipeline.contracts.events import ActionEvents
from pipeline.contracts.shared import Shared
from pipeline.records.artifacts import Artifact, FileRef, Kind
from pipeline.records.metrics import Metric
from pipeline.records.values import Value

if TYPE_CHECKING:
    from pipeline.data import Split
    from pipeline.records.manifest import ActionRecord, Fingerprint


class StageConfig(Value):
    """Hold the settings of a stage: what the recipe gives under its name, with defaults filled in."""

    def at_step(self, progress: Callable[[float], float]) -> Self:
        """Return the settings for one step of a `repeat`; most stages do the same at each step.

        `progress` gives the share to take so far, of the share to take in the end. Raises ValueError where the settings
        can't be reached in steps.
        """
        return self

    def by_element(self) -> Mapping[str, Self]:
        """Return these settings for each element of the stage's axis separately, by the element's name in metrics.

        Empty where the setting that fans out is a list of names and nothing else depends on it: then the planner takes
        them one by one.
        """
        return {}


Config = TypeVar("Config", bound=StageConfig, contravariant=True)
ConfigOut = TypeVar("ConfigOut", covariant=True)  # a stage's settings, or what others see of them


Of = Literal["branch", "ancestor", "source", "first", "taken", "original", "baseline"]


@dataclass(frozen=True, slots=True)
class Input:
    """Declare an input artifact: the kinds accepted, which artifact of these kinds, and when the stage takes it.

    `of` is

    - `branch`: what the recipe has made last; if that is several (schemes, formats), an action is planned for each;
    - `ancestor`: the nearest one from which the branch was made, which may be the result of the same action;
    - `source`: the model that the recipe opens;
    - `first`: the branch that the first action of this stage took;
    - `taken`: the branch that the nearest action before took that made one of the kinds `by`;
    - `original`: the branch that the first action took that made one of the kinds `by`; the source if none did;
    - `baseline`: what the source becomes by the stages that made the branch from its model, see `HasBaseline`.

    `when` names a setting of the stage: without it, the input is not taken. One that is not `required` is left out if
    there is none.
    """

    kinds: tuple[Kind, ...]
    of: Of = "branch"
    when: str | None = None
    required: bool = True
    by: tuple[Kind, ...] = ()


@dataclass(frozen=True, slots=True)
class Axis:
    """Declare a list-valued setting that fans out: an action for each element and each branch.

    `form` makes an action's place on the axes from both; what it puts first changes slowest. Results that are not
    `named` have no metrics under that name.
    """

    setting: str
    form: str = "{element}"
    named: bool = True

    def place(self, element: str, branch: str | None) -> str:
        """Return the place of an element's action on a branch, such as `int8`, `tflite/int8` or `tflite/int8@cpu`."""
        return self.form.format(element=element, branch=branch)


@dataclass(frozen=True, slots=True)
class Upstream:
    """Tell what an action would take: the artifact's kind, and the settings of the stages by the kinds they made.

    Of several stages that made a kind, the nearest counts.
    """

    kind: Kind
    settings: Mapping[Kind, StageConfig]


@dataclass(frozen=True, slots=True)
class StageResult:
    """Hold what a stage produced: artifacts, flat metrics, and an interval (low, high) for metrics that have one."""

    outputs: tuple[Artifact, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    resumed: bool = False  # it resumed from what a killed run had left in `work_dir`


class StageContext(Protocol[ConfigOut]):
    """Give a stage all that it may touch. Files it reads are verified; files it writes become blobs, each at once."""

    @property
    def config(self) -> ConfigOut:
        """Return the settings; the setting that fans out holds only this action's element."""

    @property
    def inputs(self) -> Mapping[str, Artifact]:
        """Return the input artifacts by name."""

    @property
    def axis(self) -> str | None:
        """Return the element of the axis that this action is for, such as `int8` or `tflite/int8@cpu`."""

    @property
    def work_dir(self) -> Path:
        """Return an existing scratch folder that survives a kill and is found again only by the same action."""

    @property
    def seed(self) -> int:
        """Return the recipe's seed; 0 for stages that do not declare `seeded`."""

    @property
    def threads(self) -> int:
        """Return how many threads kernels may use; the number enters the key of seeded stages."""

    @property
    def folder(self) -> Path:
        """Return the recipe's folder, relative to which names in a recipe are resolved."""

    @property
    def events(self) -> ActionEvents:
        """Return where to send progress and warnings."""

    @property
    def shared(self) -> Shared:
        """Return what the actions of this run share in memory."""

    def read(self, input_name: str, file_name: str) -> Path:
        """Return the verified path of a file of an input artifact. The path has no suffix; don't write to it."""

    def source_file(self, role: str = "file") -> Path:
        """Return a file or folder of the recipe's model (for `load`) by its role; its digest is the one in the key."""

    def source_name(self, role: str = "file") -> str:
        """Return the user's name for it, for messages."""

    @property
    def roles(self) -> tuple[str, ...]:
        """Return the roles of all files that the recipe's model has."""

    def data(self, split: str) -> Split:
        """Return a data split that `splits` names: `train`, `validation`, `test` or `calibration`."""

    def function(self, reference: str) -> Callable[..., Any]:
        """Return the user's function `module:function` from the module by the recipe whose digest is in the key."""

    def write(self, name: str, data: bytes | memoryview, media_type: str) -> FileRef:
        """Store `data` and return the reference to put into an artifact."""

    def attest(self, file: FileRef, fingerprint: Fingerprint) -> None:
        """Record what the model in `file` computes: it stays with the record and with records that pass the file on."""

    def fingerprint(self, file: FileRef) -> Fingerprint | None:
        """Return what was recorded when this file was written, as far as this action's inputs know."""

    def read_made(self, artifact: Artifact, file_name: str) -> Path:
        """Return the verified path of a file of an artifact that `call` made. Don't write to it."""

    def call(
        self, stage: str, config: Mapping[str, object], inputs: Mapping[str, Artifact], axis: str | None = None
    ) -> ActionRecord:
        """Run another stage as a sub-step: planned, cached and resumed like any other, listed as a child.

        `axis` is the element that it runs for; by default the caller's own.
        """


class Stage(Protocol[Config]):
    """Define the contract of a stage. Raise `version` by hand whenever equal inputs would give other outputs."""

    name: ClassVar[str]
    version: ClassVar[int]
    config: ClassVar[type[StageConfig]]
    inputs: ClassVar[Mapping[str, Input]]
    outputs: ClassVar[tuple[Kind, ...]]
    axis: ClassVar[Axis | None]  # what fans out; None: one action for each branch
    seeded: ClassVar[bool]
    metrics: ClassVar[tuple[Metric, ...]]  # all that a result can have: gates are checked against them
    packages: ClassVar[tuple[str, ...]]  # distributions whose versions enter the key

    def splits(self, config: Config) -> tuple[str, ...]:
        """Return the data splits that this configuration reads; their digests enter the key."""

    def requires(self, config: Config, inputs: Mapping[str, Artifact]) -> None:
        """Make cheap checks; raise PreconditionError before any work."""

    def run(self, context: StageContext[Config]) -> StageResult:
        """Do the work."""

    def ensures(self, context: StageContext[Config], result: StageResult) -> None:
        """Check the result numerically; raise PostconditionError, and then nothing is published."""


AnyStage = Stage[Any]
