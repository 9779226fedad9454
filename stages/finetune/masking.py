"""Train with weights kept at zero: tfmot's wrapper holds the masks, the plan says which and when.

tfmot's own masks rank by magnitude within one layer; the plan's also support random choice, one ranking over the
network and depthwise kernels. So its schedule is set to never act, and the masks are set from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.keras.sparsity import SparsityPlan
from stages.keras.tensorflow import import_keras, import_tfmot
from stages.keras.types import KerasLayer, KerasModel

if TYPE_CHECKING:
    from tf_keras.callbacks import Callback

UPDATES = 50  # of the masks, while sparsity increases
NEVER = 2**40  # steps


class MaskedModel:
    """Wrap every planned kernel of `model`; `model` itself is unchanged until `put_back`."""

    def __init__(self, model: KerasModel, plan: SparsityPlan) -> None:
        self._plain, self._plan = model, plan
        self._places: dict[str, list[int]] = {}
        for kernel in plan.kernels:
            self._places.setdefault(kernel.layer, []).append(kernel.weight)
        self.model = import_keras().models.clone_model(model, clone_function=self._wrapped)
        for layer in self.model.layers:
            inner_layer(layer).set_weights(model.get_layer(plain_name(layer)).get_weights())
        self.model.output_names = list(model.output_names)  # losses and labels use them, not the wrappers' names
        self.set_masks(plan.progress(0.0))

    def callbacks(self, steps_per_epoch: int, epochs: int) -> list[Callback]:
        """Return callbacks that must precede all others, which then see masked weights."""
        callbacks = import_keras().callbacks
        total, reached_at = steps_per_epoch * epochs, self._plan.reached_at
        # Before the last step: at least one trains at the full sparsity.
        end = min(max(1, round(total * reached_at)), total - 1)
        every = max(1, end // UPDATES)
        epoch_of = {"now": 0}

        def update(batch: int, _: object) -> None:
            step = epoch_of["now"] * steps_per_epoch + batch
            if reached_at and step <= end and (step % every == 0 or step == end):
                # `end` is 0 if all of the training is one step.
                self.set_masks(self._plan.progress(reached_at * step / end if end else reached_at))

        keep = import_tfmot().sparsity.keras.UpdatePruningStep()  # masks what the last batch of an epoch changed
        begin = callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, _: epoch_of.update(now=epoch), on_train_batch_begin=update
        )
        begin._supports_tf_logs = True  # noqa: SLF001 - it reads no logs: without this Keras copies them at each batch
        return [keep, begin]

    def set_masks(self, progress: float) -> None:
        """Set the plan's masks, and zero the weights that they mask."""
        variables = [inner_layer(layer).weights[position] for layer, position in self._kernels()]
        values = [variable.numpy() for variable in variables]
        masks = self._plan.masks(values, progress)
        for (layer, position), variable, value, mask in zip(self._kernels(), variables, values, masks, strict=True):
            index = self._places[plain_name(layer)].index(position)
            # tfmot holds (weight, mask, threshold) for each of `get_prunable_weights`, in that order.
            layer.pruning_vars[index][1].assign(mask.astype(value.dtype))
            variable.assign(value * mask)

    def put_back(self) -> KerasModel:
        """Return the plain model, with the current weights of the wrapped one."""
        for layer in self.model.layers:
            self._plain.get_layer(plain_name(layer)).set_weights(inner_layer(layer).get_weights())
        return self._plain

    def _kernels(self) -> list[tuple[KerasLayer, int]]:
        by_name = {plain_name(layer): layer for layer in self.model.layers}
        return [(by_name[kernel.layer], kernel.weight) for kernel in self._plan.kernels]

    def _wrapped(self, layer: KerasLayer) -> KerasLayer:
        sparsity = import_tfmot().sparsity.keras
        fresh = type(layer).from_config(layer.get_config())
        positions = self._places.get(layer.name)
        if positions is None:
            return fresh
        # Read when the wrapper builds the layer: the weights exist only then.
        # tfmot takes what this returns; its own choice holds no depthwise kernels.
        fresh.get_prunable_weights = lambda: [fresh.weights[position] for position in positions]
        # The 0.5 is never applied: a schedule has to have some target.
        return sparsity.prune_low_magnitude(fresh, sparsity.ConstantSparsity(0.5, begin_step=NEVER, frequency=NEVER))


def inner_layer(layer: KerasLayer) -> KerasLayer:
    """Return the layer inside tfmot's wrapper, or `layer` if there is none."""
    return layer.layer if type(layer).__name__ == "PruneLowMagnitude" else layer


def plain_name(layer: KerasLayer) -> str:
    """Return the name that a layer has in the model without wrappers."""
    return str(inner_layer(layer).name)
