"""Measure what each layer loses to quantization: a file's tensors compared with the nearest Keras layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.records.artifacts import Kind
from pipeline.records.values import Value
from stages.formats.layers.agreement import Agreement, agreements
from stages.formats.layers.parity import cosine
from stages.formats.registry import file_tensors
from stages.formats.tensors import Tensors
from stages.keras.layer_calls import LayerCall, record_layers
from stages.keras.types import KerasModel


class LayerError(Value):
    """Hold means over samples of a layer's outputs.

    `sqnr_db` and `cosine` are over all its numbers. `noise` is the share of noise in the signal of each channel, at
    most 1, over nonzero channels: the effect of a tensor's single scale on its small channels is not drowned in its
    large ones. `added_noise` is the part that was not there in the layer's inputs. `readers` are the layers that read
    it.
    """

    layer: str
    readers: tuple[str, ...]
    sqnr_db: float
    cosine: float
    noise: float
    added_noise: float


def layer_errors(
    model: KerasModel, kind: Kind, file: bytes | Path, arrays: Mapping[str, Any], tensors: Tensors = file_tensors
) -> list[LayerError]:
    """Return all layers that can be matched in the file, the one that adds most noise first.

    `arrays` are samples (N, …) by input name; every tensor is computed for each. Layers that only rearrange their
    inputs are left out. `tensors` returns what the file computes.
    """
    import numpy as np

    by_layer: dict[str, list[LayerError]] = {}
    for index in range(len(next(iter(arrays.values())))):
        sample = {name: values[index : index + 1] for name, values in arrays.items()}
        calls = record_layers(model, sample)
        for error in _errors(calls, agreements(calls, tensors(kind, file, sample))):
            by_layer.setdefault(error.layer, []).append(error)
    figures = ("sqnr_db", "cosine", "noise", "added_noise")
    errors = [
        several[0].model_copy(update={name: float(np.mean([getattr(e, name) for e in several])) for name in figures})
        for several in by_layer.values()
    ]
    return sorted(errors, key=lambda error: (-error.added_noise, error.layer))


def _errors(calls: Sequence[LayerCall], matched: Mapping[int, Agreement]) -> Iterator[LayerError]:
    noise = {index: _noise(_output(calls[index], agreement), agreement.flat) for index, agreement in matched.items()}
    for index, agreement in matched.items():
        if not _only_rearranges(calls, index):
            output = _output(calls[index], agreement)
            yield LayerError(
                layer=calls[index].layer,
                readers=tuple(dict.fromkeys(calls[reader].layer for reader in _readers(calls, index))),
                sqnr_db=agreement.sqnr_db,
                cosine=cosine(output.reshape(1, -1), agreement.flat.reshape(1, -1)),
                noise=noise[index],
                added_noise=noise[index] - _noise_before(calls, index, noise),
            )


def _output(call: LayerCall, agreement: Agreement) -> Any:
    """Return the output of the call that has the tensor's size."""
    return next(values for values in call.outputs if values.size == agreement.flat.size)


def _noise(reference: Any, flat: Any) -> float:
    """Return noise relative to the signal, one channel (the last axis) at a time; see `LayerError`."""
    import numpy as np

    channels = reference.shape[-1] if reference.ndim > 1 else 1
    signal = np.square(reference.reshape(-1, channels).astype(np.float64)).sum(axis=0)
    noise = np.square((flat.reshape(-1, channels) - reference.reshape(-1, channels)).astype(np.float64)).sum(axis=0)
    alive = (signal > 0) | (noise > 0)
    if not alive.any():
        return 0.0
    # The bound is for channels of zeros in Keras that are not zero in the file: all of that is noise.
    return float(np.minimum(noise[alive] / np.maximum(signal[alive], 1e-30), 1.0).mean())


def _noise_before(calls: Sequence[LayerCall], index: int, noise: Mapping[int, float]) -> float:
    """Return the most noise among the nearest layers before this one that were found."""
    most, pending, seen = 0.0, list(calls[index].reads), set(calls[index].reads)
    while pending:
        earlier = pending.pop()
        if earlier in noise:
            most = max(most, noise[earlier])
            continue
        new = calls[earlier].reads - seen
        seen |= new
        pending.extend(new)
    return most


def _readers(calls: Sequence[LayerCall], index: int) -> Iterator[int]:
    """Yield the calls that read this one, through those that only rearrange."""
    for other, call in enumerate(calls):
        if index in call.reads:
            if _only_rearranges(calls, other):
                yield from _readers(calls, other)
            else:
                yield other


def _only_rearranges(calls: Sequence[LayerCall], index: int) -> bool:
    import numpy as np

    inputs = [values.ravel() for read in calls[index].reads for values in calls[read].outputs]
    return any(np.array_equal(made.ravel(), values) for made in calls[index].outputs for values in inputs)
