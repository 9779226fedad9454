"""Read rows of uncompressed arrays in an npz directly from the file, on demand.

Rows are read, not memory-mapped: a file that shrinks while it is mapped kills the process, and mapped pages count as
its memory.
"""

from __future__ import annotations

import ast
import struct
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.images import rows_at
from pipeline.data.splits import Selection
from pipeline.errors import DataError
from pipeline.store.file_digests import State, state_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOCAL_HEADER_BYTES, NAME_LENGTHS_AT = 30, 26  # of a zip member: its name and extra field follow the header
ENCRYPTED = 1
MAGIC, HEADER_BYTES = b"\x93NUMPY", 64 * 2**10  # an array's shape and type take some hundred bytes


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Read an array (N, …) of numbers at an offset of a file, in C order."""

    path: Path
    state: State
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Selection) -> NDArray[Any]:
        """Return the rows at a slice or an array of indices; DataError if the file has changed."""
        import numpy as np

        indices = rows_at(key, len(self))
        rows = np.empty((len(indices), *self.shape[1:]), self.dtype)
        row_bytes = rows[:1].nbytes
        into = rows.reshape(-1).view(np.uint8).data
        # Before and after: a file that is rewritten in between would give rows of both versions.
        self._require_unchanged()
        with self.path.open("rb", buffering=0) as file:
            for position, first, count in _runs(indices):
                file.seek(self.offset + first * row_bytes)
                part = into[position * row_bytes : (position + count) * row_bytes]
                # Linux reads at most 2 GiB at once. A file that ends early leaves the rest unset, and has changed by
                # the check below.
                while part and (read := file.readinto(part)):
                    part = part[read:]
        self._require_unchanged()
        return rows

    def _require_unchanged(self) -> None:
        if state_of(self.path) != self.state:
            what = "the file changed during the run"
            raise DataError(what, where=str(self.path), hint="run again")


def stored_rows(path: Path, member: str) -> StoredRows | None:
    """Open the array in a member `NAME.npy` in place; None if it is compressed, or in another order.

    Raises KeyError where there is no such member, and what `zipfile` raises on damaged archives.
    """
    import numpy as np

    state = state_of(path)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & ENCRYPTED:
            return None
        with archive.open(info) as file:
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            version = np.lib.format.read_magic(file)
            # Version 3.0 is for names of fields beyond Latin-1: such arrays hold structures, not numbers.
            if version not in read:
                return None
            shape, fortran, dtype = read[version](file)
            header_bytes = file.tell()
    whole = header_bytes + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    # With a size that is not the member's, rows would be read from whatever follows it in the file.
    if dtype.hasobject or fortran or not shape or whole != info.file_size:
        return None
    # Only here are the lengths right: numpy's members have an extra field of 20 bytes in their own header, and none in
    # the archive's directory.
    with path.open("rb") as raw:
        raw.seek(info.header_offset + NAME_LENGTHS_AT)
        names = sum(struct.unpack("<HH", raw.read(LOCAL_HEADER_BYTES - NAME_LENGTHS_AT)))
    return StoredRows(path, state, info.header_offset + LOCAL_HEADER_BYTES + names + header_bytes, dtype, shape)


def array_shape(path: Path, member: str) -> tuple[int, ...]:
    """Return the shape in the header of a member `NAME.npy`, without numpy.

    Raises KeyError where there is no such member, ValueError where it is not an array, and what `zipfile` raises.
    """
    with zipfile.ZipFile(path) as archive, archive.open(member) as file:
        magic = file.read(len(MAGIC) + 2)
        if not magic.startswith(MAGIC) or len(magic) < len(MAGIC) + 2:
            raise ValueError(f"{member} holds no array")
        # Version 1.0 has two bytes for the header's length, later ones have four.
        length = int.from_bytes(file.read(2 if magic[-2] == 1 else 4), "little")
        # Nothing has checked the file yet, and it may name 4 GB.
        if length > HEADER_BYTES:
            raise ValueError(f"{member} has a header of {length} bytes")
        try:
            shape = ast.literal_eval(file.read(length).decode("latin1"))["shape"]
        # Memory and recursion: what `literal_eval` raises where brackets are nested too deeply.
        except (SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
            raise ValueError(f"{member} has no header of an array") from error
    if not isinstance(shape, tuple) or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError(f"{member} has the shape {shape}")
    return shape


def _runs(indices: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Group consecutive indices: yield the place of the first among `indices`, the first, and how many follow it."""
    begun = 0
    for position in range(1, len(indices) + 1):
        if position == len(indices) or indices[position] != indices[position - 1] + 1:
            yield begun, indices[begun], position - begun
            begun = position
