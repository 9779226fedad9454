"""Prune unstructured: individual weights become zero, and training keeps them zero.

Any runtime computes as much as before; only the compressed file gets smaller, and what a runtime with sparse kernels
makes of it. The layers' weights are ranked by size (Han et al., "Learning both Weights and Connections", 2015) or drawn
at random.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.errors import PreconditionError, numbered
from stages.keras.layer_patterns import matching
from stages.keras.sparsity import PlannedKernel, SparsityPlan
from stages.keras.types import KerasModel
from stages.keras.wrappers import require_unwrapped
from stages.prune.config import PruneConfig

Kernels = list[tuple[str, int, int]]  # layer, place among its weights, size


def plan_for(model: KerasModel, config: PruneConfig, seed: int) -> SparsityPlan:
    """Plan which kernels of `model` (not nested) lose how much. PreconditionError if the settings don't fit it."""
    require_unwrapped(model, "prune")
    kernels = _kernels(model, config)
    if not kernels:
        raise PreconditionError(
            "no kernel of this model can be made sparse", where=model.name, hint="exclude less, or another pattern"
        )
    shares = _shares(kernels, model, config)
    return SparsityPlan(
        criterion=config.declared.sparse or "magnitude",
        scope=config.sparse_scope,
        pattern=config.sparsity.pattern,
        block=config.sparsity.block,
        reached_at=config.sparsity.reached_at if config.sparsity.schedule == "polynomial" else 0.0,
        seed=seed,
        kernels=tuple(
            PlannedKernel(layer=layer, weight=weight, share=shares[layer])
            for layer, weight, _ in kernels
            if layer in shares
        ),
    )


def _kernels(model: KerasModel, config: PruneConfig) -> Kernels:
    """Return every weight of two or more axes; for 2:4 those that are matrices of inputs and outputs."""
    names = [layer.name for layer in model.layers]
    excluded = {name for pattern in config.exclude for name in matching(pattern, names, "prune.exclude")}
    kernels = []
    for layer in model.layers:
        if layer.name in excluded:
            continue
        for index, variable in enumerate(layer.weights):
            is_kernel = len(variable.shape) > 1 and _leaf(variable).endswith(("kernel", "embeddings"))
            depthwise = _leaf(variable).startswith("depthwise") or type(layer).__name__.startswith("Depthwise")
            # A depthwise kernel sums over no inputs: it has no four consecutive ones, and is no matrix to tile.
            if is_kernel and not (depthwise and config.sparsity.pattern != "free"):
                kernels.append((layer.name, index, int(np.prod(variable.shape))))
    return kernels


def _leaf(variable: Any) -> str:
    return str(variable.name).rpartition("/")[2].partition(":")[0]


def _shares(kernels: Kernels, model: KerasModel, config: PruneConfig) -> dict[str, float]:
    """Return each layer's final share of zeros; layers that are not in it are left alone."""
    sizes: dict[str, int] = {}
    for layer, _, size in kernels:
        sizes[layer] = sizes.get(layer, 0) + size
    if config.layers:
        names = [layer.name for layer in model.layers]
        return {
            name: ratio
            for pattern, ratio in config.layers.items()
            for name in matching(pattern, names, "prune.layers")
            if name in sizes
        }
    count = config.sparsity.count
    if count is None:
        return dict.fromkeys(sizes, config.share)
    small = [f"{name} ({size})" for name, size in sizes.items() if size <= count]
    if small:
        raise PreconditionError(
            f"taking {numbered(count, 'weight')} would empty {small[0]}",
            where="prune.sparsity.count",
            hint="exclude the layers that have no more, or give a ratio",
        )
    return {name: count / size for name, size in sizes.items()}
