"""Take off tfmot's wrappers when a model with unfinished pruning is loaded, and keep what they know.

A wrapper's mask becomes zeros in the weights and a plan to keep them (`stages.keras.sparsity`): so all stages work on
plain layers, `finetune` keeps the zeros with its own wrappers, and no schedule of another training continues to prune.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.errors import numbered
from stages.keras.free_sizes import like
from stages.keras.normal_form import copy_model
from stages.keras.sparsity import PlannedKernel, SparsityPlan
from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasLayer, KerasModel
from stages.keras.wrappers import ANNOTATION, PRUNING, wrapper_of

TAKEN_OFF = (PRUNING, ANNOTATION)


@dataclass(frozen=True)
class Unwrapped:
    """Hold a model without pruning and annotation wrappers, the plan of its zeros (None if there are none), notes."""

    model: KerasModel
    plan: SparsityPlan | None = None
    notes: tuple[str, ...] = ()


def unwrapped(model: KerasModel) -> Unwrapped:
    """Return `model` if there is nothing to take off; sets its weights to zero where masks say so."""
    layers = list(model._flatten_layers(include_self=False))  # noqa: SLF001 - Keras has no public way
    pruned = [layer for layer in layers if wrapper_of(layer) == PRUNING]
    if not any(wrapper_of(layer) in TAKEN_OFF for layer in layers):
        return Unwrapped(model)
    for layer in pruned:
        for weight, mask, _ in layer.pruning_vars:
            # A gradient step moves weights under the mask, and tfmot sets them to zero again at the beginning of the
            # next one only.
            weight.assign(weight * mask)
    outer = {id(layer) for layer in model.layers}
    kernels = tuple(kernel for layer in pruned if id(layer) in outer for kernel in _kernels(layer))
    inside = sum(id(layer) not in outer for layer in pruned)
    plain = like(copy_model(import_keras().models.clone_model(model, clone_function=_without_wrapper)), model)
    if not kernels:
        return Unwrapped(plain, None, tuple(_notes(pruned, kernels, inside)))
    plan = SparsityPlan(
        criterion="magnitude", scope="layer", pattern="free", block=(1, 1), reached_at=0.0, seed=0, kernels=kernels
    )
    return Unwrapped(plain, plan, tuple(_notes(pruned, kernels, inside)))


def _without_wrapper(layer: KerasLayer) -> KerasLayer:
    """Return the layer itself, or what it wraps; in nested models too."""
    if isinstance(layer, import_keras().Model):
        return import_keras().models.clone_model(layer, clone_function=_without_wrapper)
    if wrapper_of(layer) not in TAKEN_OFF:
        return layer
    if not hasattr(layer.layer, "_batch_input_shape") and hasattr(layer, "_batch_input_shape"):
        layer.layer._batch_input_shape = layer._batch_input_shape  # noqa: SLF001 - or a Sequential model has no input
    return layer.layer


def _kernels(layer: KerasLayer) -> Iterator[PlannedKernel]:
    """Yield the weights of a wrapped layer that have zeros, with their share."""
    import numpy as np

    positions = {id(weight): position for position, weight in enumerate(layer.layer.weights)}
    for weight, _, _ in layer.pruning_vars:
        value = weight.numpy()
        zeros = min(value.size - int(np.count_nonzero(value)), value.size - 1)  # one stays, as everywhere
        if zeros:
            yield PlannedKernel(layer=layer.layer.name, weight=positions[id(weight)], share=zeros / value.size)


def _notes(pruned: list[KerasLayer], kernels: tuple[PlannedKernel, ...], inside: int) -> Iterator[str]:
    if not pruned:
        return
    aim = max((aim for layer in pruned if (aim := _aim(layer)) is not None), default=None)
    anew = f"`prune: {{method: unstructured, ratio: {0.5 if aim is None else aim:g}}}` before `finetune`"
    carried = f"{numbered(len(pruned), 'layer')} carried tfmot's pruning wrapper"
    if kernels:
        share = sum(kernel.share for kernel in kernels) / len(kernels)
        yield f"{carried}: it was taken off, and `finetune` keeps the zeros, {share:.0%} of a weight on average"
    else:
        yield f"{carried}, which had set nothing to zero yet: it was taken off, and {anew} begins again"
    if inside:
        yield f"{inside} of these are inside of nested models, where `finetune` does not keep zeros"
    if kernels and aim is not None and aim > max(kernel.share for kernel in kernels) + 0.01:
        yield f"its schedule went on to {aim:.0%} zeros: {anew} does"


def _aim(layer: KerasLayer) -> float | None:
    """Return the share of zeros that the wrapper's schedule was to reach."""
    settings = layer.pruning_schedule.get_config().get("config", {})
    return next((float(settings[n]) for n in ("final_sparsity", "target_sparsity") if n in settings), None)
