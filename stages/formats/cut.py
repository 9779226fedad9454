"""A file that ends after one of its operators."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cut:
    """The file with its operators up to this one, whose kind and first output's name in the file are told."""

    kind: str
    name: str
    data: bytes
