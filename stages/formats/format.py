"""Say what a format is: the contract that each folder under `formats/` keeps, and what some formats can do besides.

A format is a class named by one line under the entry-point group `secateur.formats`. What that line loads imports
neither TensorFlow nor numpy at its top. What not every format can do is a Protocol of its own, asked by isinstance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, runtime_checkable

from pipeline.contracts.stage import StageContext, StageResult
from pipeline.data.spec import Preprocess
from pipeline.records.artifacts import Kind, TensorSpec
from pipeline.records.facts import QuantizedFacts
from pipeline.records.schemes import Quantization
from pipeline.records.values import Value

if TYPE_CHECKING:
    from stages.formats.cut import Cut
    from stages.formats.probe import Probe, ProbeScheme

Arrays = Mapping[str, Any]  # tensor name -> (N, …)


class FormatSettings(Value):
    """The settings under `export` that concern one format, and those that are made from it."""


Own = TypeVar("Own", bound=FormatSettings)


class ExportSettings(Protocol):
    """What a format sees of the settings of `export`."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]] | None:
        """The sizes of inputs by name, without the batch, where the model leaves them free."""

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The names of the classes, in their order."""

    @property
    def preprocess(self) -> Preprocess | Mapping[str, Preprocess] | None:
        """What was done to the inputs."""

    def of(self, settings: type[Own]) -> Own:
        """The settings that a format owns."""

    def for_format(self, name: str) -> Mapping[str, object]:
        """The same settings for another format, for one that is made from its files."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A file, ready to run. `run` takes any number of samples by input name and returns the outputs by name."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    run: Callable[[Arrays], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class FileTensor:
    """An operator's output under its name in the file, in real numbers; `operator` is its place in the file.

    `ends` are the least and the greatest number that it can hold, where it is stored in 8 or 16 bits.
    """

    name: str
    values: Any
    operator: int = 0
    ends: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel by its operator and the runtime's name for it, with what it usually costs."""

    operator: str
    name: str
    cost: float


class Format(Protocol):
    """A kind of file that a quantized Keras model can be made into."""

    name: ClassVar[str]
    kind: ClassVar[Kind]
    settings: ClassVar[type[FormatSettings]]
    packages: ClassVar[tuple[str, ...]]  # whose versions enter the keys of exports in this format
    runtime_packages: ClassVar[tuple[str, ...]]  # whose versions enter the keys of what runs its files
    metrics: ClassVar[tuple[str, ...]]  # that its exports can have, beside those of all exports
    made_from: ClassVar[str | None]  # the format whose file it is made from; None: from the Keras model
    file_counts: ClassVar[tuple[int, ...]]  # how many files an artifact can have
    imports: ClassVar[tuple[str, ...]]  # what the child imports ahead of a conversion: modules, or `module:function`

    def recognises(self, data: Any) -> bool:
        """Whether a file with this content, mapped, is of this format; ModelError where it is, and is damaged."""

    def beside(self, model: Path) -> tuple[Path, ...]:
        """The files that belong to a model file and stand in its folder; ModelError where one is missing."""

    def refuses(self, how: Quantization) -> str | None:
        """Why the format can't have a scheme with these settings, or None; asked before anything runs."""

    def convert(self, context: StageContext[Any], quantized: QuantizedFacts) -> StageResult:
        """Make the artifact. Its files have run in their runtime, where one is here, and compute what Keras does.

        `context` is that of the export stage; its settings are ExportSettings.
        """


@runtime_checkable
class Runs(Protocol):
    """A format whose files run on this machine."""

    def load(self, model: bytes | Path, threads: int = 1) -> LoadedModel:
        """A file in its runtime; DeviceError if that refuses it. `threads` of 0 leaves their number to the runtime."""


@runtime_checkable
class HoldsAnother(Protocol):
    """A format whose files hold the file of another format, such as C source."""

    holds: ClassVar[str]

    def held(self, data: bytes) -> bytes:
        """The other format's file, out of the first of an artifact's files."""


@runtime_checkable
class Simulated(Protocol):
    """A format with a simulator of the device that computes its files."""

    simulator: ClassVar[str]  # its name in reports

    def simulate(self, data: bytes, arrays: Arrays, name: str) -> Mapping[str, Any] | None:
        """The outputs for a few samples; None where the simulator is not installed."""


@runtime_checkable
class RunsElsewhere(Protocol):
    """A format that only a device runs."""

    elsewhere: ClassVar[str]  # why it is not verified here


@runtime_checkable
class ShowsTensors(Protocol):
    """A format whose runtime shows what each operator of a file computes."""

    def tensors(self, model: bytes | Path, arrays: Arrays) -> Iterator[FileTensor]:
        """All real-valued tensors that operators make of one batch, in their order."""

    def reads(self, model: bytes | Path) -> list[frozenset[int]]:
        """For each operator the places of those whose outputs it reads."""

    def input_ends(self, data: bytes) -> dict[str, tuple[float, float]]:
        """The least and the greatest number of each input that is quantized, by name."""

    def small_constants(self, data: bytes) -> Mapping[str, Any]:
        """The 8-bit constants of two axes or more, as they are stored around 0, channels first; by name."""


@runtime_checkable
class NamesLayers(Protocol):
    """A format whose operators carry the names of the Keras layers that they compute."""

    def layers_of(self, name: str) -> tuple[str, ...]:
        """The layers in the name of an operator's output, those with weights first."""


@runtime_checkable
class TellsOrigin(Protocol):
    """A format whose files name the Keras model that they were made of, since their operators do not."""

    def origin(self, model: Path) -> str | None:
        """The digest of the Keras model; None where the file names none. ModelError where it is damaged inside."""


@runtime_checkable
class Cuttable(Protocol):
    """A format whose files can be cut after each operator."""

    def cuts(self, model: bytes, name: str) -> Iterator[Cut]:
        """The file cut after each of its operators, in order; `name` is what errors call it."""


@runtime_checkable
class CutAsOptimized(Cuttable, Protocol):
    """A format whose files are cut as their runtime has optimized them on the device, and then run as they are."""

    optimized_by_its_runtime: ClassVar[bool]


@runtime_checkable
class ProfiledHere(Protocol):
    """A format whose runtime profiles its own kernels on this machine."""

    def kernels(self, model: Path, name: str, shapes: Mapping[str, Sequence[int]]) -> tuple[list[Kernel], str]:
        """All kernels in the order they run in, nanoseconds with one thread, and the runtime with its version.

        `shapes`, by input name ("" for any) and with the batch, are for inputs that leave sizes open.
        """

    def operators_in(self, kernels: Sequence[Kernel], model: Path) -> dict[str, list[int]]:
        """For each kernel's name the places of the operators of the file that it computes."""


@runtime_checkable
class OnDevice(Protocol):
    """A format whose files the device runner opens, here and on boards."""

    opener: ClassVar[str]  # the module that does so; its source goes to the board (see `stages/devices/runner.py`)


@runtime_checkable
class MakesProbes(Protocol):
    """A format in which files of one layer are made without a converter."""

    def probe_model(self, probe: Probe, scheme: ProbeScheme) -> bytes:
        """The file of a probe; equal probes give equal bytes."""
