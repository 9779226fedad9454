"""Say what a stage can do besides running: a Protocol each, asked by isinstance where it matters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pipeline.contracts.stage import StageConfig
from pipeline.records.artifacts import Kind

if TYPE_CHECKING:
    from pipeline.store.file_digests import FileDigests


@runtime_checkable
class DependsByAxis(Protocol):
    """A stage in which other packages matter for other elements of the axis; `packages` are all of them."""

    def packages_for(self, axis: str | None) -> tuple[str, ...]:
        """The distributions whose versions enter the key of an action for this element."""


@runtime_checkable
class DependsOnDevice(Protocol):
    """A stage whose results depend on a device."""

    def device(self, config: Any, folder: Path) -> Mapping[str, str] | None:
        """The device's fingerprint, which enters the key; None where these settings ask no device.

        RecipeError where there is no such device, DeviceError where it is not set up.
        """


@runtime_checkable
class NamesTargets(Protocol):
    """A stage whose settings name targets."""

    def targets_of(self, config: Any) -> tuple[str, ...]:
        """The targets that these settings name."""


@runtime_checkable
class MeasuresOnTarget(NamesTargets, Protocol):
    """A stage that measures files on a target."""

    def refuses(self, config: Any, kind: Kind, folder: Path, quantized_by: Any) -> str | None:
        """Why the target can't take an artifact of this kind, quantized so, or None.

        RecipeError where there is no such target.
        """

    def metrics_on(self, config: Any, folder: Path) -> tuple[str, ...]:
        """The flat metrics that a result on the target of these settings can have."""

    def extended(self, config: Any, folder: Path) -> StageConfig | None:
        """Settings for one longer look, where a gate can't tell by the first; None where that would tell no more."""

    def remark(self, target: str, folder: Path) -> str | None:
        """What the user should know of the target that a name finds, if anything."""


@runtime_checkable
class MakesFormats(Protocol):
    """The stage that makes files of quantized models: its axis are formats."""

    def refuses(self, target_format: str, quantized_by: Any) -> str | None:
        """Why a format can't have what quantize's settings ask for, or None."""

    def kind_for(self, axis: str) -> Kind:
        """The kind of artifact that an element of the axis is made into."""


@runtime_checkable
class NeedsLabels(Protocol):
    """A stage that some settings make need labels."""

    def labels_for(self, config: Any) -> tuple[str, str] | None:
        """What needs labels, and what to do without; None where nothing does."""


@runtime_checkable
class AsksForSamples(Protocol):
    """A stage that may ask what the samples of the data are like before it runs."""

    def asks_for_samples(self, config: Any, files: Mapping[str, Path], digests: FileDigests) -> bool:
        """Whether what it makes of these files follows from the shapes of the samples."""


@runtime_checkable
class Prepares(Protocol):
    """A stage that has something to begin ahead."""

    def prepare(self, config: Any, threads: int) -> None:
        """Begin it: returns at once, and may be called often."""
