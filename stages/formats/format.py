"""Define a format: the contract that each folder under `formats/` keeps, and optional abilities of formats.

A format is a class named by one line under the entry-point group `secateur.formats`. What that line loads imports
neither TensorFlow nor numpy at its top. Abilities that not every format has are separate Protocols, asked by
isinstance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, TypeVar, runtime_checkable

from pydantic import ConfigDict

from pipeline.contracts.stage import StageContext, StageResult
from pipeline.data.samples import Preprocess
from pipeline.records.artifacts import Kind, TensorSpec
from pipeline.records.facts import QuantizedFacts
from pipeline.records.metrics import Metric
from pipeline.records.schemes import Quantization
from pipeline.records.values import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stages.formats.cut import Cut
    from stages.formats.probe import Probe, ProbeScheme
    from stages.formats.twin import Twin

Arrays: TypeAlias = Mapping[str, "NDArray[Any]"]  # tensor name -> (N, …)
Content: TypeAlias = bytes | mmap  # of a file, which may be mapped into memory


class FormatSettings(Value):
    """Hold the settings under `export` that concern one format, and those that are made from it."""

    # Built when an export asks for them: their fields are also those of ExportConfig, which every start builds.
    model_config = ConfigDict(defer_build=True)


Own = TypeVar("Own", bound=FormatSettings)


class ExportSettings(Protocol):
    """Show a format the settings of `export`."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]] | None:
        """Return the sizes of inputs by name, without the batch, if the model leaves them free."""

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Return the names of the classes, in their order."""

    @property
    def preprocess(self) -> Preprocess | Mapping[str, Preprocess] | None:
        """Return how inputs were preprocessed."""

    def of(self, settings: type[Own]) -> Own:
        """Return the settings that a format owns."""

    def for_format(self, name: str) -> Mapping[str, object]:
        """Return the same settings for another format, for one that is made from its files."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Hold a file, ready to run. `run` takes any number of samples by input name and returns the outputs by name."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    run: Callable[[Arrays], dict[str, NDArray[Any]]]


@dataclass(frozen=True, slots=True)
class FileTensor:
    """Hold an operator's output under its name in the file, in real numbers; `operator` is its place in the file.

    `ends` are the smallest and the largest number that it can hold, if it is stored in 8 or 16 bits.
    """

    name: str
    values: NDArray[Any]
    operator: int = 0
    ends: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Kernel:
    """Describe a kernel by its operator and the runtime's name for it, with its typical cost."""

    operator: str
    name: str
    cost: float


class Format(Protocol):
    """Make files of one kind from quantized Keras models."""

    name: ClassVar[str]
    kind: ClassVar[Kind]
    settings: ClassVar[type[FormatSettings]]
    packages: ClassVar[tuple[str, ...]]  # their versions enter the keys of exports in this format
    runtime_packages: ClassVar[tuple[str, ...]]  # their versions enter the keys of what runs its files
    metrics: ClassVar[tuple[Metric, ...]]  # that its exports can have, besides those of all exports
    made_from: ClassVar[str | None]  # the format whose file it is made from; None: from the Keras model
    file_counts: ClassVar[tuple[int, ...]]  # possible numbers of files of an artifact
    imports: ClassVar[tuple[str, ...]]  # what the child imports before a conversion: modules, or `module:function`

    def recognises(self, data: Content) -> bool:
        """Return whether a file with this mapped content is of this format; ModelError if it is, and is damaged."""

    def beside(self, model: Path) -> tuple[Path, ...]:
        """Return the files that belong to a model file and lie in its folder; ModelError if one is missing."""

    def refuses(self, how: Quantization) -> str | None:
        """Return why the format does not support a scheme with these settings, or None; asked before anything runs."""

    def convert(self, context: StageContext[Any], quantized: QuantizedFacts) -> StageResult:
        """Make the artifact. Its files have run in their runtime, if it is installed here, and compute what Keras does.

        `context` is that of the export stage; its settings are ExportSettings.
        """


@runtime_checkable
class NeedsPackage(Protocol):
    """Mark a format that is made with a package which secateur does not install by itself."""

    extra_package: ClassVar[str]  # the name of its distribution


@runtime_checkable
class Runs(Protocol):
    """Mark a format whose files run on this machine."""

    def load(self, model: bytes | Path, threads: int = 1) -> LoadedModel:
        """Load a file in its runtime; DeviceError if that refuses it. With 0 `threads` the runtime decides."""


@runtime_checkable
class HoldsAnother(Protocol):
    """Mark a format whose files hold the file of another format, such as C source."""

    holds: ClassVar[str]

    def held(self, data: bytes) -> bytes:
        """Extract the other format's file from the first of an artifact's files."""


@runtime_checkable
class Simulated(Protocol):
    """Mark a format with a device simulator that computes its files."""

    simulator: ClassVar[str]  # its name in reports

    def simulate(self, data: bytes, arrays: Arrays, name: str) -> Arrays | None:
        """Return the outputs for a few samples; None if the simulator is not installed."""


@runtime_checkable
class RunsElsewhere(Protocol):
    """Mark a format that only a device runs."""

    elsewhere: ClassVar[str]  # why it is not verified here


@runtime_checkable
class ShowsTensors(Protocol):
    """Mark a format whose runtime shows what each operator of a file computes."""

    def tensors(self, model: bytes | Path, arrays: Arrays) -> Iterator[FileTensor]:
        """Yield all real-valued operator outputs for one batch, in their order."""

    def reads(self, model: bytes | Path) -> list[frozenset[int]]:
        """Return for each operator the places of those whose outputs it reads."""

    def input_ends(self, data: bytes) -> dict[str, tuple[float, float]]:
        """Return the smallest and the largest number of each quantized input, by name."""

    def small_constants(self, data: bytes) -> Arrays:
        """Return the 8-bit constants with two axes or more, as stored around 0, channels first; by name."""


@runtime_checkable
class NamesLayers(Protocol):
    """Mark a format whose operators carry the names of the Keras layers that they compute."""

    def layers_of(self, name: str) -> tuple[str, ...]:
        """Return the layers in the name of an operator's output, those with weights first."""


@runtime_checkable
class TellsOrigin(Protocol):
    """Mark a format whose files name the Keras model that they were made from, since their operators do not."""

    def origin(self, model: Path) -> str | None:
        """Return the digest of the Keras model; None if the file names none. ModelError if it is damaged inside."""


@runtime_checkable
class Cuttable(Protocol):
    """Mark a format whose files can be cut after each operator."""

    def cuts(self, model: bytes, name: str) -> Iterator[Cut]:
        """Yield the file cut after each of its operators, in order; `name` is used in errors."""


@runtime_checkable
class HasTwins(Protocol):
    """Mark a format whose operators can be taken out of a file, in 8 bits as they are and in float32."""

    def twins(self, model: bytes, name: str) -> Iterator[Twin]:
        """Yield both files of each operator that computes in 8 bits, in order; `name` is used in errors."""


@runtime_checkable
class CutAsOptimized(Protocol):
    """A format whose files are cut as their runtime optimizes them on a device, and then run as they are."""

    def cuts_of_optimized(self, optimized: bytes) -> Iterator[Cut]:
        """Yield what the runtime made of a file there, cut after each of its operators, in order."""


@runtime_checkable
class ProfiledHere(Protocol):
    """Mark a format whose runtime profiles its own kernels on this machine."""

    def kernels(self, model: Path, name: str, shapes: Mapping[str, Sequence[int]]) -> tuple[list[Kernel], str]:
        """Return all kernels in execution order, nanoseconds with one thread, and the runtime with its version.

        `shapes`, by input name ("" for any) and with the batch, are for inputs with free sizes.
        """

    def operators_in(self, kernels: Sequence[Kernel], model: Path) -> dict[str, list[int]]:
        """Return for each kernel's name the places of the file's operators that it computes."""


@runtime_checkable
class PinsRuntime(Protocol):
    """Mark a format whose runtime would choose by itself, on each device, in which precision it computes."""

    def pinned(self) -> Mapping[str, str]:
        """Return what sessions pin, for the fingerprint of the device that runs the files."""


@runtime_checkable
class OnDevice(Protocol):
    """Mark a format whose files the device runner opens, here and on boards."""

    opener: ClassVar[str]  # the module that opens them; its source goes to the board (see `stages/devices/runner.py`)


@runtime_checkable
class MakesProbes(Protocol):
    """Mark a format in which files of one layer are made without a converter."""

    def probe_model(self, probe: Probe, scheme: ProbeScheme) -> bytes:
        """Return the file of a probe; equal probes give equal bytes."""
