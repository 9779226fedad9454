"""Compute what surgery writes into configurations and call arguments: channel counts, and remaining values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.prune.analysis.groups import ChannelGraph
from stages.prune.analysis.labels import Constant, Keep, Path


@dataclass(frozen=True, slots=True)
class Edit:
    """Say what to do with the entry at `path`."""

    path: Path
    change: Callable[[Any], Any]


def configuration_edits(graph: ChannelGraph, layer: str, keep: Keep) -> list[Edit]:
    """Return what changes in the layer's configuration."""
    return [edit for edit in _edits(graph, layer, keep) if isinstance(edit.path[0], str)]


def argument_edits(graph: ChannelGraph, layer: str, keep: Keep) -> list[Edit]:
    """Return what changes in the arguments, (args, kwargs), of the layer's calls."""
    return [edit for edit in _edits(graph, layer, keep) if isinstance(edit.path[0], int)]


def edited(value: Any, edits: Iterable[Edit]) -> Any:
    """Return a copy of nested dictionaries, lists and tuples with the edits done."""
    for edit in edits:
        value = _edited(value, edit.path, edit.change)
    return value


def _edits(graph: ChannelGraph, layer: str, keep: Keep) -> list[Edit]:
    sizes = graph.sizes.get(layer, {})
    constants = graph.constants.get(layer, {})
    return [
        *(Edit(path, _becomes(int(keep[channels].sum()))) for path, channels in sizes.items()),
        *(Edit(path, _keeps(constant, keep)) for path, constant in constants.items()),
    ]


def _becomes(size: int) -> Callable[[Any], int]:
    return lambda _: size


def _keeps(constant: Constant, keep: Keep) -> Callable[[Any], Any]:
    def change(values: Any) -> Any:
        kept = np.compress(keep[constant.ids], np.asarray(values), axis=constant.axis)
        return kept.tolist() if isinstance(values, list | tuple) else kept

    return change


def _edited(value: Any, path: Path, change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(value)
    key, rest = path[0], path[1:]
    if isinstance(value, dict):
        return {**value, key: _edited(value[key], rest, change)}
    items = [_edited(item, rest, change) if place == key else item for place, item in enumerate(value)]
    return tuple(items) if isinstance(value, tuple) else items
