"""Cut channels out of a network, and keep which ones are left."""

from types import SimpleNamespace
from typing import Any

import pytest

from stages.keras.channels.left import channels_left


@pytest.fixture
def cut_kept(cut: Any) -> Any:
    """Return a function that cuts random channels out of a model, and returns the source, the rest and what is kept."""

    def make(model: Any, seed: int = 0) -> Any:
        result = cut(model, seed)
        kept = channels_left(result.model, result.graph, result.keep)
        return SimpleNamespace(source=result.model, pruned=result.pruned, kept=kept)

    return make
