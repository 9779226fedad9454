"""Hold what rebuilding a Keras 3 model in tf_keras needs, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stages.load.keras3_layers import Objects


@dataclass
class Translation:
    """Hold the inputs and findings of a rebuild.

    `traced` are the layers of Keras 3, by identity, that tf_keras lacks: their weights are in the graph already.
    `left_out` are those of them that do nothing at inference.
    """

    objects: Objects
    traced: dict[int, Any] = field(default_factory=dict)
    left_out: set[int] = field(default_factory=set)

    def notes(self) -> tuple[str, ...]:
        """Return what a user should know about the translation, one sentence each."""
        named = [
            [
                f"{layer.name} ({type(layer).__name__})"
                for key, layer in self.traced.items()
                if (key in self.left_out) is out
            ]
            for out in (False, True)
        ]
        sentences = []
        if named[0]:
            what = "tf_keras has no such layer: it is taken over as what it computes at inference, in training too"
            sentences.append(f"{', '.join(named[0])}: {what}")
        if named[1]:
            sentences.append(f"{', '.join(named[1])}: does nothing at inference, and `finetune` goes without it")
        return tuple(sentences)
