"""Compute what surgery writes into configurations and call arguments: channel counts, and remaining values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.keras.channels.groups import ChannelGraph
from stages.keras.channels.labels import Constant, Keep, Path


@dataclass(frozen=True, slots=True)
class Change:
    """Say what to do with the entry at `path`."""

    path: Path
    apply: Callable[[Any], Any]


def configuration_changes(graph: ChannelGraph, layer: str, keep: Keep) -> list[Change]:
    """Return what changes in the layer's configuration."""
    return [change for change in _changes(graph, layer, keep) if isinstance(change.path[0], str)]


def argument_changes(graph: ChannelGraph, layer: str, keep: Keep) -> list[Change]:
    """Return what changes in the arguments, (args, kwargs), of the layer's calls."""
    return [change for change in _changes(graph, layer, keep) if isinstance(change.path[0], int)]


def with_changes(value: Any, changes: Iterable[Change]) -> Any:
    """Return a copy of nested dictionaries, lists and tuples with the changes done."""
    for change in changes:
        value = _with_change(value, change.path, change.apply)
    return value


def _changes(graph: ChannelGraph, layer: str, keep: Keep) -> list[Change]:
    sizes = graph.sizes.get(layer, {})
    constants = graph.constants.get(layer, {})
    return [
        *(Change(path, _becomes(int(keep[channels].sum()))) for path, channels in sizes.items()),
        *(Change(path, _keeps(constant, keep)) for path, constant in constants.items()),
    ]


def _becomes(size: int) -> Callable[[Any], int]:
    return lambda _: size


def _keeps(constant: Constant, keep: Keep) -> Callable[[Any], Any]:
    def change(values: Any) -> Any:
        kept = np.compress(keep[constant.ids], np.asarray(values), axis=constant.axis)
        return kept.tolist() if isinstance(values, list | tuple) else kept

    return change


def _with_change(value: Any, path: Path, change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(value)
    key, rest = path[0], path[1:]
    if isinstance(value, dict):
        return {**value, key: _with_change(value[key], rest, change)}
    items = [_with_change(item, rest, change) if index == key else item for index, item in enumerate(value)]
    return tuple(items) if isinstance(value, tuple) else items
