"""Define one rule per kind of layer, in one table; importing the package fills the table."""

from __future__ import annotations

from stages.keras.channels.rules import elementwise, merging, operators, recurrent, scaling, shapes, weighted, wrappers
from stages.keras.channels.rules.table import RULES, Rule, rule, rule_for, transparent

__all__ = [
    "RULES",
    "Rule",
    "elementwise",
    "merging",
    "operators",
    "recurrent",
    "rule",
    "rule_for",
    "scaling",
    "shapes",
    "transparent",
    "weighted",
    "wrappers",
]
