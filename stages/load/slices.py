"""Expand slices with an ellipsis, `x[..., :6]`: tf_keras computes them, but can't write them into its files."""

from __future__ import annotations

from typing import Any, TypeAlias

from stages.keras.normal_form import copy_model
from stages.keras.types import KerasModel

ALL = {"start": None, "stop": None, "step": None}  # tf_keras' notation of `:`
SliceKey: TypeAlias = Any  # what stands in the brackets of `x[key]`: one part or several, in either notation


def spelled_out(key: SliceKey, rank: int, everything: object) -> SliceKey:
    """Expand the ellipsis in a key of `x[key]` to as many `everything` as needed; `x` has `rank` axes."""
    parts = list(key) if isinstance(key, list | tuple) else [key]
    if not _has_ellipsis(key):
        return key
    position = next(index for index, part in enumerate(parts) if part is Ellipsis)
    read = sum(part is not None and part is not Ellipsis for part in parts)
    return [*parts[:position], *[everything] * (rank - read), *parts[position + 1 :]]


def without_ellipses(model: KerasModel) -> KerasModel:
    """Return `model`, or an equal one in which no slice has an ellipsis; then `model` must be thrown away."""
    layers = model._flatten_layers(include_self=False)  # noqa: SLF001 - those of models inside too
    calls = [n for layer in layers if type(layer).__name__ == "SlicingOpLambda" for n in layer.inbound_nodes]
    shortened = [call for call in calls if _has_ellipsis(call.call_kwargs.get("slice_spec"))]
    for call in shortened:  # what is written into a configuration
        rank = len(call.call_args[0].shape)
        call.call_kwargs["slice_spec"] = spelled_out(call.call_kwargs["slice_spec"], rank, ALL)
    return copy_model(model) if shortened else model


def _has_ellipsis(key: SliceKey) -> bool:
    return any(part is Ellipsis for part in (key if isinstance(key, list | tuple) else [key]))
