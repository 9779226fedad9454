"""Define the facts of toy files, and of the toy stage's report on them."""

from __future__ import annotations

from typing import Literal

from pipeline.records.artifacts import Facts
from pipeline.records.facts import ExportFacts


class ToyFacts(ExportFacts):
    """Describe a toy file."""

    kind: Literal["toy-model"] = "toy-model"


class ToyReport(Facts):
    """Count the weights in a toy file, and its zeros."""

    kind: Literal["toy-report"] = "toy-report"
    weights: int
    zeros: int
