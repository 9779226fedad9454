"""Decode encoded images on demand.

The engine knows no framework: what decodes is found by the entry-point group `secateur.decoders` (see
`stages/samples/decoding.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.data.declaration import PathSettings
from pipeline.data.decoders import decoder
from pipeline.data.table import Failures, first_of
from pipeline.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
CHECKED_AT_A_TIME = 64  # images that are in memory at once, encoded and decoded


Resize = Literal["bilinear", "nearest", "area", "bicubic", "crop", "pad"]


class ImageSettings(PathSettings):
    """Set what images are made into, for sources that can hold some."""

    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = Field(
        None, description="height and width that images are brought to"
    )
    resize: Resize = Field("bilinear", description="how; crop and pad keep proportions, the others stretch")
    channels: Literal[1, 3, 4] = Field(3, description="of images, whatever they are stored with")
    max_undecodable: float = Field(
        0.0, ge=0, lt=1, description="the share of images that may fail to decode; they are left out and counted"
    )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Return height, width and channels of images; without height and width if `size` is not given."""
        return (*(self.size or ()), self.channels)


@dataclass(frozen=True, slots=True)
class ImageForm:
    """Describe what every image is made into: float32 (height, width, channels), values 0…255."""

    size: tuple[int, int]
    resize: Resize
    channels: int

    @classmethod
    def of(cls, settings: ImageSettings) -> ImageForm:
        """Take the form from the recipe."""
        if settings.size is None:
            raise DataError("images need data.size: [height, width]")
        return cls(settings.size, settings.resize, settings.channels)


@dataclass(frozen=True, slots=True)
class ImageSamples:
    """Serve `count` images: `read` returns the encoded bytes of some, `name` what one is called in messages."""

    finite: ClassVar[bool] = True
    count: int
    read: Callable[[Sequence[int]], list[bytes]]
    name: Callable[[int], str]
    form: ImageForm
    where: str
    threads: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count, *self.form.size, self.form.channels)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: Any) -> Any:
        indices = rows_at(key, self.count)
        images, failures = self._decoded(indices)
        if failures:
            raise DataError(
                f"{len(failures)} of {len(indices)} images that were read can't be decoded: {first_of(failures)}",
                where=self.where,
                hint="mend them, take them out, or let data.max_undecodable be the share that may be left out",
            )
        return images

    def undecodable(self, indices: Any) -> Failures:
        """Return those of the samples at `indices` that can't be decoded; reads each of them once."""
        # Silent only here, on the main thread: trainings read from threads of their own, and silence is the process's.
        failures: Failures = {}
        for start in range(0, len(indices), CHECKED_AT_A_TIME):
            failures |= self._decoded(indices[start : start + CHECKED_AT_A_TIME].tolist(), silent=True)[1]
        return failures

    def _decoded(self, indices: Sequence[int], *, silent: bool = False) -> tuple[Any, Failures]:
        images, reasons = decoder("image")(self.read(indices), self.form, self.threads, silent=silent)
        return images, {
            indices[position]: f"{self.name(indices[position])} ({why})" for position, why in reasons.items()
        }


def rows_at(key: Any, count: int) -> Sequence[int]:
    """Return the row numbers that a slice or an array of indices selects."""
    if isinstance(key, slice):
        return range(count)[key]
    return [int(index) for index in key]
