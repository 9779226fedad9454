"""Define a file that ends after one of its operators."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cut:
    """Hold the file up to this operator, with the operator's kind and its first output's name in the file."""

    kind: str
    name: str
    data: bytes
