"""One rule a kind of layer, in one table; importing the package fills the table."""

from __future__ import annotations

from stages.prune.rules import elementwise, merging, operators, shapes, weighted
from stages.prune.rules.table import RULES, Rule, rule, rule_for, transparent

__all__ = [
    "RULES",
    "Rule",
    "elementwise",
    "merging",
    "operators",
    "rule",
    "rule_for",
    "shapes",
    "transparent",
    "weighted",
]
