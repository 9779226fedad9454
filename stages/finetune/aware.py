"""Train quantization-aware: tfmot's fake quantization around every layer that it knows, checked before training.

Weights and activations are rounded to int8 in the forward pass, so that training finds weights that tolerate it (Jacob
et al., 2018, arXiv:1712.05877). What earlier compression gave is kept on request: zeros by tfmot's prune-preserving
scheme, clusters by its cluster-preserving one. Layers keep their names.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import PostconditionError, PreconditionError
from pipeline.system.quiet import quiet
from stages.finetune.config import QuantizationAware
from stages.keras.layer_kinds import kind_of
from stages.keras.layer_patterns import matching
from stages.keras.normal_form import renew_constants
from stages.keras.tensorflow import import_keras, import_tfmot
from stages.keras.types import KerasLayer, KerasModel, TfVariable
from stages.keras.wrappers import require_unwrapped, wrapper_of

if TYPE_CHECKING:
    from tensorflow_model_optimization.python.core.quantization.keras.quantize_scheme import QuantizeScheme

# tfmot 0.8.1 names the layer that it refuses in its message alone (`quantize_apply` in `quantize.py`).
REFUSED = re.compile(r"Layer (.+?):<class")


@dataclass(frozen=True)
class AwareModel:
    """Hold a model for training; `outside` are layers by name that stay in float, with what they are.

    `settled` is the model in its final form, tfmot's default scheme, once `settle` has copied the trained weights.
    """

    training: KerasModel
    settled: KerasModel
    outside: tuple[str, ...]

    def settle(self) -> KerasModel:
        """Return the trained model without what only preserved zeros or clusters during training."""
        if self.training is self.settled:
            return self.settled
        for layer, trained in zip(self.settled.layers, self.training.layers, strict=True):
            learned = {_plain(weight, trained): weight.numpy() for weight in trained.weights}
            names = [_plain(weight, layer) for weight in layer.weights]
            if not set(names) <= set(learned):
                what = f"tfmot trained {trained.name!r} without {', '.join(sorted(set(names) - set(learned)))}"
                raise PostconditionError(what, where="finetune.quantization_aware", hint="please report it")
            layer.set_weights([learned[name] for name in names])
        renew_constants(self.settled)
        return self.settled


def aware_model(model: KerasModel, settings: QuantizationAware) -> AwareModel:
    """Add fake quantization to a copy of `model`. PreconditionError if tfmot can't wrap any of it."""
    import_tfmot()  # quietly, before anything inside it is imported
    require_unwrapped(model, "finetune.quantization_aware")
    nested = next((layer.name for layer in model.layers if isinstance(layer, import_keras().Model)), None)
    if nested is not None:
        what = f"tfmot trains no nested models for int8, and {nested!r} is one"
        raise PreconditionError(what, where="finetune.quantization_aware", hint="flatten it, or leave it out")
    names = [layer.name for layer in model.layers]
    excluded = {name for pattern in settings.exclude for name in matching(pattern, names, "quantize.keep_float")}
    known = {layer.name for layer in model.layers if _supported(layer)} - excluded
    settled, known = _wrapped(model, known, None)
    training = _wrapped(model, known, settings.preserve)[0] if settings.preserve else settled
    outside = tuple(
        f"{layer.name} ({type(layer).__name__})"
        for layer in model.layers
        if layer.name not in known | excluded and type(layer).__name__ not in ("InputLayer", "BatchNormalization")
    )
    return AwareModel(training, settled, outside)


def _supported(layer: KerasLayer) -> bool:
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry,
    )

    registry = default_8bit_quantize_registry.Default8BitQuantizeRegistry()
    if kind_of(layer).separable:
        return True  # tfmot splits it into two convolutions before it looks
    # A normalization is considered together with the convolution before it.
    return bool(registry.supports(layer)) or type(layer).__name__ == "BatchNormalization"


def _wrapped(model: KerasModel, known: Collection[str], preserve: str | None) -> tuple[KerasModel, set[str]]:
    """Return tfmot's model, and the layers that it took: those that it refuses on a closer look are left out."""
    keras, quantization = import_keras(), import_tfmot().quantization.keras
    left = set(known)

    def annotate(layer: KerasLayer) -> KerasLayer:
        # A new layer: an annotation would stay on the one of the caller's model.
        fresh = type(layer).from_config(layer.get_config())
        return quantization.quantize_annotate_layer(fresh) if layer.name in left else fresh

    # tfmot raises at the first layer that it refuses. That one is taken out, and the rest tried again.
    while left:
        annotated = keras.models.clone_model(model, clone_function=annotate)
        annotated.set_weights(model.get_weights())
        try:
            with quiet():  # it logs every layer to the root logger
                made = quantization.quantize_apply(annotated, _scheme(preserve), quantized_layer_name_prefix="")
        except RuntimeError as error:
            refused = REFUSED.search(str(error))
            if refused is None or refused[1] not in left:
                raise
            left.discard(refused[1])
            continue
        if any(wrapper_of(layer) for layer in made.layers):
            return made, left
        break
    what = "tfmot can train none of the model's layers for int8"
    raise PreconditionError(what, where="finetune.quantization_aware", hint="quantize it without training (no qat)")


def _scheme(preserve: str | None) -> QuantizeScheme:
    if preserve == "sparsity":
        from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.prune_preserve import (
            default_8bit_prune_preserve_quantize_scheme as pruned,
        )

        return pruned.Default8BitPrunePreserveQuantizeScheme()
    if preserve == "clusters":
        from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.cluster_preserve import (
            default_8bit_cluster_preserve_quantize_scheme as clustered,
        )

        return clustered.Default8BitClusterPreserveQuantizeScheme()
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_scheme as plain,
    )

    return plain.Default8BitQuantizeScheme()


def _plain(weight: TfVariable, layer: KerasLayer) -> str:
    """Return a weight's name inside its layer: layers added by tfmot are numbered in creation order."""
    return str(weight.name.rpartition("/")[2].removeprefix(f"{layer.name}_"))
