"""Define an operator of an int8 file alone, and the same operator in float32: files whose costs are compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Twin:
    """Hold an operator's kind, its first output's name, how many channels it reads, and both files of it alone."""

    kind: str
    name: str
    channels: int
    integer: bytes
    real: bytes
