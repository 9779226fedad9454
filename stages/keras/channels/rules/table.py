"""Hold the table of layer rules: kind of layer → what it does with channels.

A rule is one function from a `Call` to a `Flow`. It says where channels come out, which weights and which entries of
the configuration hold them; groups, surgery and the equivalence check all follow from that. If it can't say, it raises
CannotFollowError with the reason, and the channels stay. To add your own layer to the table:

    @rule(MyScale)
    @transparent
    def my_scale(call: Call, labels: Labels) -> Flow:
        return Flow((labels,), weights={"scale": {0: Held(labels.ids, Role.PASS_THROUGH)}})

Kinds match exactly: a subclass may do anything, so it needs its own rule.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from stages.keras.channels.labels import Call, Fixed, Flow, Labels
from stages.keras.types import KerasLayer

Rule = Callable[[Call], Flow]
RULES: dict[str, Rule] = {}


def rule(*kinds: str | type) -> Callable[[Rule], Rule]:
    """Register a function for kinds of layers: names for Keras' own ones, classes for all others."""

    def register(function: Rule) -> Rule:
        for kind in kinds:
            RULES[kind if isinstance(kind, str) else kind_of_class(kind)] = function
        return function

    return register


def rule_for(layer: KerasLayer) -> Rule | None:
    """Return the rule for this layer's kind, or None."""
    return RULES.get(kind_of_class(type(layer)))


def kind_of_class(layer_class: type) -> str:
    """Return a class's key in the table: its name if Keras has made it, else its full path."""
    module = layer_class.__module__
    return layer_class.__name__ if module.partition(".")[0] == "tf_keras" else f"{module}.{layer_class.__qualname__}"


def transparent(function: Callable[[Call, Labels], Flow]) -> Rule:
    """Make a rule for layers with one input that only pass channels on: fixed inputs give fixed outputs."""

    @wraps(function)
    def follow(call: Call) -> Flow:
        carried = call.only()
        if isinstance(carried, Fixed):
            return Flow(outputs=(carried,) * len(call.output_shapes))
        return function(call, carried)

    return follow
