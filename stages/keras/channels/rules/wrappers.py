"""Handle layers around another layer."""

from __future__ import annotations

from dataclasses import replace

from stages.keras.channels.labels import Call, CannotFollowError, Carried, Fixed, Flow, Labels
from stages.keras.channels.rules.table import rule, rule_for


@rule("TimeDistributed")
def time_distributed(call: Call) -> Flow:
    """Apply the inner layer at each step: its rule, on tensors without the time axis."""
    inside = rule_for(call.layer.layer)
    if inside is None or hasattr(call.layer.layer, "layers"):
        raise CannotFollowError(f"unknown layer kind {type(call.layer.layer).__name__} at each step")
    flow = inside(
        replace(
            call,
            layer=call.layer.layer,
            inputs=tuple(_without_time(carried) for carried in call.inputs),
            input_shapes=tuple((shape[0], *shape[2:]) for shape in call.input_shapes),
            output_shapes=tuple((shape[0], *shape[2:]) for shape in call.output_shapes),
        )
    )
    return Flow(
        outputs=tuple(_with_time(carried) for carried in flow.outputs),
        weights={f"layer.{name}": axes for name, axes in flow.weights.items()},
        sizes={("layer", "config", *path): ids for path, ids in flow.sizes.items()},
        constants={("layer", "config", *path): held for path, held in flow.constants.items()},
    )


def _without_time(carried: Carried) -> Carried:
    if isinstance(carried, Fixed):
        return carried
    if carried.axis == 1:
        raise CannotFollowError("channels on the axis of time")
    return Labels(carried.axis - 1, carried.ids)


def _with_time(carried: Carried) -> Carried:
    return carried if isinstance(carried, Fixed) else Labels(carried.axis + 1, carried.ids)
