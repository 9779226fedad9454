"""Find tfmot's wrappers around a model's layers, by their purpose."""

from __future__ import annotations

from pipeline.errors import PreconditionError, first_few, numbered
from stages.keras.types import KerasLayer, KerasModel

PRUNING, CLUSTERING, QUANTIZATION, ANNOTATION = "pruning", "clustering", "quantization", "annotation"
KINDS = {
    "PruneLowMagnitude": PRUNING,
    "ClusterWeights": CLUSTERING,
    "ClusterWeightsMHA": CLUSTERING,
    "QuantizeWrapper": QUANTIZATION,
    "QuantizeWrapperV2": QUANTIZATION,
    "QuantizeLayer": QUANTIZATION,
    "QuantizeAnnotate": ANNOTATION,
}
WHAT_TO_DO = {
    PRUNING: "load the model's file with `load`, which takes them off and keeps what they have set to zero",
    CLUSTERING: "put `- strip` before it: clusters are kept up to there, by `finetune` too",
    QUANTIZATION: "take the model as it was before quantization-aware training: its layers can't be taken apart",
    ANNOTATION: "load the model's file with `load`, which takes them off",
}


def wrapper_of(layer: KerasLayer) -> str | None:
    """Return the purpose of tfmot's wrapper around a layer, or None if there is none."""
    # By module too, since a user's own class may have such a name.
    ours = type(layer).__module__.startswith("tensorflow_model_optimization.")
    return KINDS.get(type(layer).__name__) if ours else None


def wrappers_in(model: KerasModel) -> dict[str, str]:
    """Return the purpose of each wrapper, by the wrapping layer's name, in nested models too."""
    layers = model._flatten_layers(include_self=False)  # noqa: SLF001 - Keras has no public way
    return {layer.name: kind for layer in layers if (kind := wrapper_of(layer))}


def carrying(number: int, kind: str) -> str:
    """Return `1 layer carries tfmot's pruning wrapper`, `2 layers carry …`."""
    return f"{numbered(number, 'layer')} {'carries' if number == 1 else 'carry'} tfmot's {kind} wrapper"


def require_unwrapped(model: KerasModel, stage: str) -> None:
    """Raise PreconditionError, with what to do, if a stage can't work on a model because of its wrappers."""
    wrappers = wrappers_in(model)
    if not wrappers:
        return
    kind = next(iter(wrappers.values()))
    names = [name for name, purpose in wrappers.items() if purpose == kind]
    what = f"{carrying(len(names), kind)}, into which {stage} can't look: {first_few(names)}"
    raise PreconditionError(what, where=stage, hint=WHAT_TO_DO[kind])
