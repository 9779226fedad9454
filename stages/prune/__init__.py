"""Prune structurally: `prune_model(model, PruneConfig(ratio=0.5))`. TensorFlow is imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stages.prune.config import PruneConfig

if TYPE_CHECKING:
    from stages.keras.channels.groups import ChannelGraph, ChannelGroup, channel_groups
    from stages.prune.pruning import PruneResult, prune_model

__all__ = ["ChannelGraph", "ChannelGroup", "PruneConfig", "PruneResult", "channel_groups", "prune_model"]

_CHANNELS, _PRUNING = "stages.keras.channels.groups", "stages.prune.pruning"
_HOMES = {
    **dict.fromkeys(("ChannelGraph", "ChannelGroup", "channel_groups"), _CHANNELS),
    **dict.fromkeys(("PruneResult", "prune_model"), _PRUNING),
}


def __getattr__(name: str) -> Any:
    """Import the public names whose modules need numpy on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
