"""Order inputs of a Keras model as it takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def by_input(inputs: Any, names: Sequence[str]) -> list[Any]:
    """Return a split's inputs (one array, or a dict by name) in the order of the model's input `names`."""
    return [inputs[name] for name in names] if isinstance(inputs, Mapping) else [inputs]


def as_arrays(samples: Any) -> list[Any]:
    """Return one array per input: several inputs unchanged, a single one in a list."""
    return list(samples) if isinstance(samples, list | tuple) else [samples]
