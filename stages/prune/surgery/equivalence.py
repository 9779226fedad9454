"""Prove by masked equivalence that surgery removed the chosen channels and nothing else.

In the original, every weight by which a consumer reads a removed channel is set to zero. The channel is then still
computed but never read, so the outputs must equal those of the pruned model, within the rounding of another order of
summation. They must also differ from the unmasked original's: a check that cannot fail proves nothing. Outputs are
compared before a closing softmax or sigmoid, which would hide differences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PostconditionError, PreconditionError, numbered
from stages.keras.channels.groups import ChannelGraph
from stages.keras.channels.labels import Keep, Role
from stages.keras.closing import before_squashing
from stages.keras.normal_form import random_inputs, relative_difference
from stages.keras.precision import in_float32
from stages.keras.rounding import difference_beyond_rounding
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasModel

TOLERANCE = 1e-4
WEAK_EFFECT = 1e-2  # below, a wrong cut could pass for rounding
DEAD = 1e-6  # at most this: every sample gives the same outputs
SAMPLES = 4

Arrays = list[NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Hold the largest differences over all outputs, relative to the largest value of each.

    `error` is between the pruned and the masked model, `effect` between the masked and the original. `spread` is how
    far the masked model's outputs differ from one sample to another: nothing, if the rest of it is dead.
    """

    error: float
    effect: float
    spread: float

    @property
    def strong(self) -> bool:
        """Return whether a wrong cut would show: what went mattered, and what stayed depends on the inputs."""
        return self.effect >= WEAK_EFFECT and self.spread > DEAD


def masked_equivalence(
    model: KerasModel, pruned: Any, graph: ChannelGraph, keep: Keep, inputs: Sequence[Any] | None = None
) -> Equivalence:
    """Compare `pruned` with `model` without the channels that `keep` does not mark, on `inputs` or random ones.

    Both models are unchanged when this returns or raises. Half-precision models are compared in float32.
    """
    model, pruned = in_float32(model), in_float32(pruned)
    probes = random_inputs(model, SAMPLES) if inputs is None else list(inputs)
    with before_squashing(pruned) as result:
        after = _outputs(result, probes)
    with before_squashing(model) as original:
        before = _outputs(original, probes)
        with masked(model, graph, keep):
            muted = _outputs(original, probes)
            # Infinite outputs give NaN here, which `check_equivalence` reports.
            with np.errstate(invalid="ignore"):
                run = partial(_outputs, original)
                error = difference_beyond_rounding(run, probes, muted, after, TOLERANCE)
    return Equivalence(error, _difference(before, muted), _difference(muted, _shifted(muted)))


def check_flattened(model: KerasModel, flat: Any, inputs: Sequence[Any] | None = None) -> None:
    """Raise PostconditionError unless `flat` computes what `model`, with models nested in it, does."""
    if flat is model:
        return
    probes = random_inputs(model, SAMPLES) if inputs is None else list(inputs)
    run = partial(_outputs, model)
    difference = difference_beyond_rounding(run, probes, run(probes), _outputs(flat, probes), TOLERANCE)
    # Not `>`: NaN has to fail.
    if not difference <= TOLERANCE:
        raise PostconditionError(
            f"without its nested models the model gives other outputs, by {difference:.1e}",
            where="prune",
            hint="please report the model; building it without nested models helps meanwhile",
        )


def check_equivalence(found: Equivalence, removed: int) -> None:
    """Raise PostconditionError unless the pruned model equals the masked one and masking changed something."""
    if not np.isfinite(found.error):
        raise PostconditionError(
            "the outputs are not finite on the inputs of the check, so it proves nothing",
            where="prune",
            hint="give prune_model inputs of the kind that the model was made for",
        )
    if found.error > TOLERANCE:
        raise PostconditionError(
            f"the pruned model differs from the masked original by {found.error:.1e}, allowed is {TOLERANCE:.0e}",
            where="prune",
            hint="a layer rule is wrong: please report the model; excluding the layer at fault helps meanwhile",
        )
    if removed and found.effect == 0.0:
        raise PostconditionError(
            f"taking away {numbered(removed, 'channel')} changed no output, so the check proves nothing",
            where="prune",
            hint="the channels are dead, or the outputs are constant: look at the model's weights",
        )


@contextmanager
def masked(model: KerasModel, graph: ChannelGraph, keep: Keep) -> Iterator[None]:
    """Zero temporarily every weight of `model` by which a consumer reads a channel that goes."""
    restore: list[tuple[Any, NDArray[Any]]] = []
    try:
        for slot in graph.slots:
            gone = ~keep[slot.channels]
            if slot.role is Role.CONSUMER and gone.any():
                variable = slot.variable(model.get_layer(slot.layer))
                value = variable.numpy()
                restore.append((variable, value.copy()))
                value[(slice(None),) * slot.axis + (gone,)] = 0
                variable.assign(value)
        yield
    finally:
        # Reversed: a variable that two slots masked gets the value from before the first one last.
        for variable, value in reversed(restore):
            variable.assign(value)


def _outputs(model: KerasModel, inputs: list[Any]) -> Arrays:
    tf = import_tensorflow()
    try:
        values = model(inputs[0] if len(inputs) == 1 else inputs, training=False)
    except (ValueError, tf.errors.OpError) as error:
        raise PreconditionError(
            f"the model can't run on the inputs of the check: {error}",
            where="prune",
            hint="give prune_model data of the kind that the model was made for",
        ) from error
    return [np.asarray(value, np.float64) for value in tf.nest.flatten(values)]


def _shifted(outputs: Arrays) -> Arrays:
    """Return the outputs shifted by one sample."""
    return [np.roll(output, 1, axis=0) for output in outputs]


def _difference(left: Arrays, right: Arrays) -> float:
    """Return the largest relative difference; NaN if an output is not finite."""
    with np.errstate(invalid="ignore"):
        return float(np.max([relative_difference(a, b) for a, b in zip(left, right, strict=True)]))
