"""Facts of toy files, and of what the toy stage tells of them."""

from __future__ import annotations

from typing import Literal

from pipeline.records.artifacts import Facts
from pipeline.records.facts import ExportFacts


class ToyFacts(ExportFacts):
    """A toy file."""

    kind: Literal["toy-model"] = "toy-model"


class ToyReport(Facts):
    """How many weights a toy file holds, and how many of them are zero."""

    kind: Literal["toy-report"] = "toy-report"
    weights: int
    zeros: int
