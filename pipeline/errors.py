"""Define the error tree. Each error says what went wrong, where, and what to do; the command line prints just that.

Errors are raised where the fact is known, chained to their cause, and caught once, in `pipeline.cli`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pipeline.records.manifest import RunManifest

STYLING = re.compile(r"\x1b\[[0-9;]*m")  # bold and colors, as Keras 3 writes into its messages
FEW = 3
WHERE_ALONE = ("Exception encountered when calling",)  # both Keras versions: the reason is on the next line
PLEASE_REPORT = "if the recipe asks for nothing unusual, please report this with the log"


class SecateurError(Exception):
    """Report a failure with a known reason.

    `what` is one sentence without a full stop, `where` names a file, layer or key, `hint` tells what to do.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint
        self.printed = False  # whether stdout already holds the JSON document about it
        self.manifest: RunManifest | None = None  # of the run that it ended, once that is written
        self.also: tuple[str, ...] = ()  # what else failed in that run, a line each


class RecipeError(SecateurError):
    """Raised if the recipe, an option or a named path is wrong: nothing was started."""

    exit_code = 2


class ModelError(SecateurError):
    """Raised if a model file can't be read, or holds what can't be represented."""


class UnsupportedError(ModelError):
    """Raised if a format can't hold this model in this scheme; `unsupported: skip` leaves the pair out."""


class DataError(SecateurError):
    """Raised if the data can't be read, or does not fit the model."""


class ChangedModelError(ModelError):
    """Raised if the model's file is not the one that was hashed: the run forgets what it remembers of files."""


class ChangedDataError(DataError):
    """Raised if data are not those that were hashed: the run forgets what it remembers of files."""


class SourceError(DataError):
    """Raised if model and data fit each other so badly that all later results would be worthless: it ends the run."""


class PreconditionError(SecateurError):
    """Raised if a stage can't do what its settings ask for on these inputs; it has not started."""


class PostconditionError(SecateurError):
    """Raised if a stage's result failed its numerical check; nothing of it was published."""


class StoreError(SecateurError):
    """Raised if the artifact store can't be read or written."""


class BlobError(StoreError):
    """Raised if a file in the store is damaged or missing: what needs it fails, the store stays usable."""


class DeviceError(SecateurError):
    """Raised if a runtime or a target device failed."""


class StageError(SecateurError):
    """Raised if a stage failed in a way that it did not foresee.

    With the hint PLEASE_REPORT, the command line writes its traceback to a log.
    """


class NativeEndError(StageError):
    """Raised if third-party software crashed its process, hung, or took too much memory."""


def reason_of(error: BaseException) -> str:
    """Return the first line of an exception's message, at most 300 characters; its type if it has none.

    A line that only says where, which Keras puts before the reason, is returned with the line after it.
    """
    lines = [line.strip() for line in STYLING.sub("", str(error)).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if isinstance(error, KeyError):  # its message is only the key
        return f"{lines[0]} is missing"[:300]
    return " ".join(lines[: 2 if lines[0].startswith(WHERE_ALONE) else 1])[:300]


def listed(names: Iterable[str], last: str) -> str:
    """Return names in a sentence: `a`, `a or b`, `a, b or c` with `last` as "or"."""
    *before, final = names
    return f"{', '.join(before)} {last} {final}" if before else final


def first_few(names: Sequence[str]) -> str:
    """Return at most three names, and how many there are more: `a, b, c and 2 more`."""
    return ", ".join(names[:FEW]) + (f" and {len(names) - FEW} more" if len(names) > FEW else "")


def numbered(number: int, noun: str) -> str:
    """Return `1 layer`, `2 layers`: a count with its noun, whose plural is regular."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def first_line(text: str) -> str:
    """Return the first line of a reason: the lines below it may say where and what to do."""
    return text.partition("\n")[0]
