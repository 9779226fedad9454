"""Remove from a model what only training needs, in nested models too.

tfmot's wrappers, dropout and noise, augmentation, regularizers and added losses are removed; on request batch
normalization is folded into the layer before it. The model is rebuilt from its configuration, in which a removed layer
is an identity under the same name: so names, outputs and nesting are unchanged, and every converter drops an identity.
Losses, metrics and optimizers that a model was compiled with need no stripping, since its stored form has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from stages.keras.free_sizes import like
from stages.keras.normal_form import put_weights, rebuilt, unbuilt
from stages.keras.stripping.folding import Fold, find_folds
from stages.keras.stripping.usage import Usage, is_of_keras, only_for_losses, usage_of
from stages.keras.tensorflow import import_keras, import_tfmot
from stages.keras.types import KerasLayer, KerasModel

DROPPING = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout")
NOISE = ("GaussianDropout", "GaussianNoise", "ActivityRegularization")
AUGMENTATION = frozenset(
    f"Random{change}"
    for change in ("Flip", "Rotation", "Translation", "Zoom", "Contrast", "Brightness", "Height", "Width", "Crop")
)
TRAINING_LAYERS = AUGMENTATION.union(DROPPING, NOISE)
CLUSTERING = frozenset({"ClusterWeights", "ClusterWeightsMHA"})
WRAPPERS = {"PruneLowMagnitude": "pruning wrapper", **dict.fromkeys(CLUSTERING, "clustering wrapper")}
DROPOUT_SETTINGS = ("dropout", "recurrent_dropout")  # of recurrent layers and attention


@dataclass(frozen=True)
class StrippedModel:
    """Hold a model that computes the same in inference, and descriptions of what was removed from it.

    `folded` says which batch normalization went where, `kept` which one could not and why.
    """

    model: Any
    removed: tuple[str, ...]
    folded: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def strip_model(model: KerasModel, *, fold_batch_norm: bool = False) -> StrippedModel:
    """Return a copy of `model` without training-only parts; `model` itself if it has none."""
    model, removed = _without_wrappers(model)
    usage = usage_of(model)
    folds, kept = find_folds(usage) if fold_batch_norm else ((), ())
    plan = _Plan(usage, {id(fold.norm) for fold in folds}, {id(fold.producer): fold for fold in folds})
    config = plan.stripped(model, model.get_config())
    removed += dict.fromkeys(plan.removed)
    if not removed and not folds:
        return StrippedModel(model, (), (), kept)
    return StrippedModel(plan.rebuilt(model, config), tuple(removed), tuple(map(str, folds)), kept)


def _without_wrappers(model: KerasModel) -> tuple[Any, list[str]]:
    """Return the model without tfmot's pruning and clustering wrappers, by tfmot's own functions, and notes."""
    kinds = [(layer.name, type(layer).__name__) for layer in model._flatten_layers()]  # noqa: SLF001 - nested ones too
    notes = [f"{name}: {WRAPPERS[kind]}" for name, kind in kinds if kind in WRAPPERS]
    if any(kind == "PruneLowMagnitude" for _, kind in kinds):
        model = import_tfmot().sparsity.keras.strip_pruning(model)
    if any(kind in CLUSTERING for _, kind in kinds):
        model = import_tfmot().clustering.keras.strip_clustering(model)
    return model, notes


@dataclass
class _Plan:
    """Plan what becomes of each layer, by `id`; `removed` collects notes as configurations are processed."""

    usage: Usage
    folded: set[int]
    takers: dict[int, Fold]
    removed: list[str] = field(default_factory=list)

    def stripped(self, model: KerasModel, config: dict[str, Any]) -> dict[str, Any]:
        """Return the configuration of `model`, or of a model nested in it, with the layers' replacements."""
        layers = {layer.name: layer for layer in model.layers}  # a sequential model does not count its InputLayer
        gone = {layer.name: layer for layer in only_for_losses(model)}
        self.removed += [f"{name}: {type(layer).__name__}, only for a loss or metric" for name, layer in gone.items()]
        entries = [entry for entry in config["layers"] if entry["config"]["name"] not in gone]
        pairs = [(layers.get(entry["config"]["name"]), entry) for entry in entries]
        return {**config, "layers": [self._entry(layer, entry) if layer else entry for layer, entry in pairs]}

    def _entry(self, layer: KerasLayer, entry: dict[str, Any]) -> dict[str, Any]:
        config = entry["config"]
        if self.usage.opens(layer):
            return {**entry, "config": self.stripped(layer, config)}
        if id(layer) in self.folded:
            return _as(entry, _identity(layer))
        if id(layer) in self.usage.in_training:
            return entry
        if type(layer).__name__ in TRAINING_LAYERS and is_of_keras(layer):
            self.removed.append(f"{layer.name}: {type(layer).__name__}")
            return _as(entry, _in_inference(layer))
        notes: list[str] = []
        config = _without_settings(config, notes, dropout=is_of_keras(layer))
        self.removed += [f"{layer.name}: {note}" for note in dict.fromkeys(notes)]
        return {**entry, "config": {**config, "use_bias": True} if id(layer) in self.takers else config}

    def rebuilt(self, model: KerasModel, config: dict[str, Any]) -> Any:
        """Return a model of that configuration, with the weights of `model`, or their folded versions."""
        classes = {type(layer).__name__: type(layer) for layer in model._flatten_layers()}  # noqa: SLF001
        with import_keras().utils.custom_object_scope(classes):
            fresh = rebuilt(type(model), unbuilt(config))
        for old, new in self._pairs(model, fresh):
            fold = self.takers.get(id(old))
            put_weights(new, fold.weights() if fold else old.get_weights())
        return like(fresh, model)

    def _pairs(self, old: Any, new: Any) -> Iterator[tuple[Any, Any]]:
        """Yield the layers that hold weights in both models."""
        successors = {layer.name: layer for layer in new.layers}
        for layer in old.layers:
            successor = successors.get(layer.name)
            if successor is None:  # it was only there for a loss
                continue
            if self.usage.opens(layer):
                yield from self._pairs(layer, successor)
            elif id(layer) not in self.folded and layer.weights:
                yield layer, successor


def _identity(layer: KerasLayer) -> Any:
    return import_keras().layers.Activation("linear", name=layer.name, dtype=layer.dtype_policy)


def _in_inference(layer: KerasLayer) -> Any:
    """Return the inference equivalent of a training-only layer: almost always an identity."""
    layers, before, after = import_keras().layers, layer.get_input_at(0), layer.get_output_at(0)
    if type(layer).__name__ == "RandomCrop" and before.shape.as_list() != after.shape.as_list():
        size = (layer.height, layer.width)  # outside of training it resizes the largest part of that shape
        return layers.Resizing(*size, crop_to_aspect_ratio=True, name=layer.name, dtype=layer.dtype_policy)
    if before.dtype != after.dtype:
        return layers.Rescaling(1.0, name=layer.name, dtype=layer.dtype_policy)  # it makes integers floating
    return _identity(layer)


def _as(entry: dict[str, Any], layer: KerasLayer) -> dict[str, Any]:
    """Return the entry of a layer in its model's configuration, with another layer in its place."""
    # tf_keras writes its own layers under this public name too, and Keras finds them by it.
    kind = {"module": "keras.layers", "class_name": type(layer).__name__, "registered_name": None}
    return {**entry, **kind, "config": layer.get_config()}


def _without_settings(value: Any, notes: list[str], *, dropout: bool) -> Any:
    """Return a layer's configuration without regularizers and dropout, including layers that it wraps."""
    if type(value) in (list, tuple):
        return type(value)(_without_settings(item, notes, dropout=dropout) for item in value)
    if not isinstance(value, dict):
        return value
    stripped = {}
    for key, setting in value.items():
        stripped[key] = _without_settings(setting, notes, dropout=dropout)
        if str(key).endswith("_regularizer") and setting is not None:
            notes.append(key)
            stripped[key] = None
        elif dropout and key in DROPOUT_SETTINGS and isinstance(setting, float) and setting > 0:
            notes.append(key)
            stripped[key] = 0.0
    return stripped
