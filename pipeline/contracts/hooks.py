"""Declare what a stage can do besides running: one Protocol each, asked by isinstance where it matters."""

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
    """Mark a stage that needs different packages for different elements of its axis; `packages` names all of them."""

    def packages_for(self, axis: str | None) -> tuple[str, ...]:
        """Return the distributions whose versions enter the key of an action for this element."""


@runtime_checkable
class DependsOnDevice(Protocol):
    """Mark a stage whose results depend on a device."""

    def device(self, config: Any, folder: Path) -> Mapping[str, str] | None:
        """Return the device's fingerprint, which enters the key; None if these settings use no device.

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

    def refuses(self, config: Any, kind: Kind, folder: Path, quantized_by: Any) -> str | None:
        """Return why the target cannot take an artifact of this kind, quantized this way, or None.

        RecipeError where there is no such target.
        """

    def metrics_on(self, config: Any, folder: Path) -> tuple[str, ...]:
        """Return the flat metrics that a result on the target of these settings can have."""

    def extended(self, config: Any, folder: Path) -> StageConfig | None:
        """Return settings for one longer measurement if a gate is undecided; None if that would not help."""

    def remark(self, target: str, folder: Path) -> str | None:
        """Return what the user should know about the target that this name resolves to, if anything."""


@runtime_checkable
class MakesFormats(Protocol):
    """Mark the stage that exports quantized models: the elements of its axis are formats."""

    def refuses(self, target_format: str, quantized_by: Any) -> str | None:
        """Return why a format does not support what quantize's settings ask for, or None."""

    def kind_for(self, axis: str) -> Kind:
        """Return the kind of artifact that an element of the axis produces."""


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
