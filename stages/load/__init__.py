"""Load the user's model as a functional `tf_keras` model in its normal form.

Names are imported on first use: plans and cached runs need only the settings from this package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.load.formats import OpenedModel, load_model

__all__ = ["OpenedModel", "load_model"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.formats"), name)
