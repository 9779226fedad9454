"""Define a third-party source: lines of numbers, the last of which is a class. Nothing outside this folder knows it."""

from __future__ import annotations

from functools import partial
from typing import Any

from pipeline.data.declaration import Opening, PathSettings, Source
from pipeline.data.table import Shapes, Table
from pipeline.errors import DataError
from pipeline.records.keys import digest_of_file


class LineSettings(PathSettings):
    """Set how a line is divided."""

    separator: str = " "
    comment: str | None = None


class Lines:
    """Read all lines; every split but `train` is drawn."""

    def __init__(self, opening: Opening[LineSettings]) -> None:
        self._opening = opening

    def content(self, stored: str, *, anew: bool = False) -> dict[str, Any]:
        if stored != "train":
            raise DataError(f"lines have no split {stored}", where=str(self._opening.path))
        digests, path = self._opening.digests, self._opening.path
        look_up = digests.computed if anew else digests.remembered
        return {"lines": look_up(path, "", partial(digest_of_file, path))}

    def shapes(self, stored: str) -> Shapes:
        return {"": (len(self._rows()[0]) - 1,)}

    def read(self, stored: str) -> Table:
        import numpy as np

        rows = np.array(self._rows(), np.float32)
        return Table(rows[:, :-1], None if self._opening.unlabelled else rows[:, -1].astype(np.int64))

    def _rows(self) -> list[list[str]]:
        comment, lines = self._opening.settings.comment, self._opening.path.read_text().splitlines()
        kept = [line for line in lines if comment is None or not line.startswith(comment)]
        return [line.split(self._opening.settings.separator) for line in kept]


SOURCE = Source(LineSettings, Lines, takes="a file", recognises=lambda begin: begin.startswith(b"#lines"))
