"""Taking out of a model what only training needs: tfmot's pruning wrappers, dropout and noise, regularisers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stages.tf_runtime import import_keras, import_tfmot

TRAINING_LAYERS = frozenset(
    {
        "Dropout",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "AlphaDropout",
        "GaussianDropout",
        "GaussianNoise",
        "ActivityRegularization",
    }
)
WRAPPERS = frozenset({"PruneLowMagnitude"})


@dataclass(frozen=True)
class StrippedModel:
    """A model that computes the same in inference, and what was taken out of it, in words."""

    model: Any
    removed: tuple[str, ...]


def strip_model(model: Any) -> StrippedModel:
    """A copy of `model` without training-only parts; layers that vanish leave an identity under their name.

    Keeping the name keeps the graph's shape, and every converter drops an identity.
    """
    removed: list[str] = []
    if any(type(layer).__name__ in WRAPPERS for layer in model.layers):
        removed += [f"{layer.name}: pruning wrapper" for layer in model.layers if type(layer).__name__ in WRAPPERS]
        model = import_tfmot().sparsity.keras.strip_pruning(model)
    found = [note for layer in model.layers for note in _training_only(layer)]
    if not found:
        return StrippedModel(model, tuple(removed))
    fresh = import_keras().models.clone_model(model, clone_function=_stripped_layer)
    fresh.set_weights(model.get_weights())
    return StrippedModel(fresh, (*removed, *found))


def _training_only(layer: Any) -> list[str]:
    if type(layer).__name__ in TRAINING_LAYERS:
        return [f"{layer.name}: {type(layer).__name__}"]
    config = layer.get_config() if hasattr(layer, "get_config") else {}
    return [f"{layer.name}: {key}" for key in _regularisers(config)]


def _regularisers(config: dict[str, Any]) -> list[str]:
    return [key for key, value in config.items() if key.endswith("_regularizer") and value is not None]


def _stripped_layer(layer: Any) -> Any:
    if type(layer).__name__ in TRAINING_LAYERS:
        return import_keras().layers.Activation("linear", name=layer.name)
    config = layer.get_config()
    return type(layer).from_config({**config, **dict.fromkeys(_regularisers(config))})
