"""Take fits back that harm the network as a whole, although they helped their own layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.keras.regression.offsets import offset_of
from stages.keras.regression.output_error import OutputError
from stages.keras.regression.refit import LayerFit
from stages.keras.regression.running import Network
from stages.keras.types import KerasModel, TfVariable

JUDGED = 64  # held-out samples that decide which layer harms most; whether any does is decided on all of them

Values = Mapping[int, NDArray[Any]]  # of variables, by identity


def values_of(model: KerasModel) -> Values:
    """Return copies of the values of all variables of a model."""
    return {id(variable): variable.numpy().copy() for variable in model.weights}


def without_harm(
    network: Network, before: Values, fits: Sequence[LayerFit], error: OutputError, limit: float
) -> tuple[list[LayerFit], float]:
    """Take layers back, in place, until the error of the network's outputs is at most `limit`; the worst ones first.

    `before` are the values from before the fit; with all of them, also those of normalizations, the error is `limit`.
    Returns the fits, with those marked that were taken back, and the error that is left.
    """
    fits, reached = list(fits), error.of(network.model)
    fitted, batches = values_of(network.model), -(-JUDGED // error.samples.size)
    variables = {fit.layer: _variables_of(network, fit.layer) for fit in fits if fit.kept}
    while not reached <= limit and variables:  # not `>`: NaN has to count as harm
        tried = {}
        for name, own in variables.items():
            _put(before, own)
            tried[name] = error.of(network.model, batches)
            _put(fitted, own)
        worst = min(tried, key=lambda name: (np.isnan(tried[name]), tried[name]))
        _put(before, variables.pop(worst))
        fits = [fit.model_copy(update={"taken_back": True}) if fit.layer == worst else fit for fit in fits]
        reached = error.of(network.model)
    if not reached <= limit:
        _put(before, network.model.weights)
        reached = error.of(network.model)
    return fits, reached


def _variables_of(network: Network, name: str) -> list[TfVariable]:
    """Return what fitting a layer changes."""
    layer = network.model.get_layer(name)
    offset = offset_of(network, layer)
    return [*layer.weights, *([offset.variable] if offset is not None else [])]


def _put(values: Values, variables: Sequence[TfVariable]) -> None:
    for variable in variables:
        variable.assign(values[id(variable)])
