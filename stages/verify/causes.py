"""Explain why a quantized file is off, as far as its own ranges tell: hints follow from what was found.

A layer's numbers on test samples are compared with the range that quantization gave their tensor: they may lie outside
of it (calibration did not see them), use next to nothing of it (an outlier made it wide), or there is no range at all
(the layer gave only zeros on calibration samples). Constants may have too few distinct steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import first_few
from stages.formats.format import Arrays, FileTensor
from stages.formats.layers.agreement import layouts, scores
from stages.keras.layer_calls import LayerCall

if TYPE_CHECKING:
    from numpy.typing import NDArray

OUTSIDE = 0.01  # of a layer's numbers: fewer are the tails that clipping is for
NARROW = 1 / 16  # of the range in use: four of eight bits
SILENT = 1e-7  # a smaller range is none
EXPLAINED_DB = 10.0  # how near a tensor is to a layer's numbers once these are clipped to its range
MATCHED = 2**14  # numbers of a tensor by which its layer is found
FEW_STEPS = 8  # of 127 that a channel of a constant has

Observed = tuple[Sequence[LayerCall], Sequence[FileTensor]]  # of one sample, in the model and in the file


@dataclass(frozen=True, slots=True)
class Cause:
    """Say what was found, and what helps."""

    said: str
    advice: str


@dataclass(slots=True)
class _Use:
    """Hold how a layer's numbers use a tensor's range, over samples."""

    layer: str
    ends: tuple[float, float]
    low: float
    high: float
    outside: int
    numbers: int


def cause_in_inputs(inputs: Arrays, ends: Mapping[str, tuple[float, float]]) -> Cause | None:
    """Return the first input whose numbers (N, …) lie outside the range that the file stores it in, or None."""
    for name, (low, high) in ends.items():
        # One step of room: what is rounded to an end is not outside.
        step = (high - low) / 255
        share = float(((inputs[name] < low - step) | (inputs[name] > high + step)).mean())
        if share > OUTSIDE:
            finding = f"{share:.1%} of the numbers of input {name!r} in the test samples lie outside the file's range"
            advice = "calibration samples that are preprocessed as the test samples are, and more of them"
            return Cause(f"{finding}, {_range((low, high))}", advice)
    return None


def input_calls(sample: Arrays) -> list[LayerCall]:
    """Return a sample's inputs as layers that read nothing: a file quantizes them like any other tensor."""
    return [LayerCall(name, (values,), frozenset()) for name, values in sample.items()]


def cause_in_ranges(samples: Sequence[Observed]) -> Cause | None:
    """Return the first layer whose range does not fit its numbers, or None; exceeded ones come before too wide ones."""
    uses = list(_uses(samples).values())
    for use in uses:
        share = use.outside / use.numbers
        if share > OUTSIDE:
            finding = f"{share:.1%} of what {use.layer!r} gives on test samples lies outside its calibrated range"
            return Cause(f"{finding}, {_range(use.ends)}", "more or better calibration samples (data.calibration)")
    for use in uses:
        if use.ends[1] - use.ends[0] < SILENT:
            finding = f"the range of {use.layer!r} is {_range(use.ends)}: nothing came out of it on calibration samples"
            return Cause(finding, f"take the layer out, if it is dead, or keep_float: [{use.layer}]")
    for use in uses:
        if use.high - use.low < NARROW * (use.ends[1] - use.ends[0]):
            finding = (
                f"{use.layer!r} gives {_range((use.low, use.high))} and has the range {_range(use.ends)}, far too wide"
            )
            others = f"calibration samples without outliers, int16x8, or keep_float: [{use.layer}]"
            return Cause(finding, f"calibration: percentile or auto, {others}")
    return None


def outside_in_words(observed: Observed, others: Iterable[Sequence[LayerCall]]) -> str | None:
    """Return which layers give numbers on test samples that their ranges cut off, and what share of them; or None.

    The `observed` sample shows which tensor holds which layer, with it the `others`, the same calls, are counted.
    """
    uses = _uses([observed])
    for calls in others:
        _count(uses, calls)
    shares = {use.layer: use.outside / use.numbers for use in uses.values() if use.outside > OUTSIDE * use.numbers}
    if not shares:
        return None
    worst = sorted(shares, key=lambda layer: -shares[layer])
    named = first_few([f"{shares[layer]:.1%} of {layer!r}" for layer in worst])
    return (
        f"on test samples {len(shares)} of {len(uses)} layers give more than {OUTSIDE:.0%} of their numbers outside of "
        f"their calibrated ranges: {named}; calibration samples are unlike these, or `calibration` clips much"
    )


def cause_in_constants(constants: Arrays) -> Cause | None:
    """Return the first constant, as it is stored (channels first), with channels of only a few steps, or None."""
    import numpy as np

    for name, stored in constants.items():
        most = np.abs(stored.astype(np.int64)).reshape(len(stored), -1).max(axis=1)
        coarse = (most > 0) & (most <= FEW_STEPS)
        if coarse.any():
            finding = (
                f"{int(coarse.sum())} of {len(most)} channels of the constant {name!r} have {FEW_STEPS} steps or fewer"
            )
            return Cause(finding, "granularity: per_channel, or keep_float for its layer")
    return None


def _range(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3g} … {ends[1]:.3g}"


def _uses(samples: Sequence[Observed]) -> dict[int, _Use]:
    """Return by place of a call, in order, the range of the tensor that explains the layer best in any of the samples.

    Numbers are counted over all samples: if a tensor explains a layer in the worst sample only, its outliers are no
    share of the layer's output.
    """
    import numpy as np

    uses: dict[int, _Use] = {}
    for calls, tensors in samples:
        for position, ends in _explained(calls, tensors).items():
            uses.setdefault(position, _Use(calls[position].layer, ends, np.inf, -np.inf, 0, 0))
    for calls, _ in samples:
        _count(uses, calls)
    return dict(sorted(uses.items()))


def _count(uses: Mapping[int, _Use], calls: Sequence[LayerCall]) -> None:
    """Add the numbers that layers give to their uses, by place of a call."""
    for position, use in uses.items():
        low, high = use.ends
        step = (high - low) / 255
        values = calls[position].outputs[0]
        least, greatest = float(values.min()), float(values.max())
        # A range that ends at zero is that of a fused ReLU: what lies below was cut by the network and not by the
        # range.
        if least < low - step and low < -step:
            use.outside += int((values < low - step).sum())
        if greatest > high + step:
            use.outside += int((values > high + step).sum())
        use.low, use.high = min(use.low, least), max(use.high, greatest)
        use.numbers += values.size


def _explained(calls: Sequence[LayerCall], tensors: Sequence[FileTensor]) -> dict[int, tuple[float, float]]:
    """Return by place of a call the range of the tensor that holds its numbers, clipped to that range."""
    import numpy as np

    best: dict[int, tuple[float, tuple[float, float]]] = {}
    for tensor in tensors:
        if tensor.ends is None:
            continue
        flats = [_some(flat) for flat in layouts(tensor.values) if np.isfinite(flat).all()]
        scored = [
            (float(scores([np.clip(_some(values.ravel()), *tensor.ends)], flats).max()), position)
            for position, call in enumerate(calls)
            for values in call.outputs[:1]
            if flats and values.dtype.kind == "f" and values.size == tensor.values.size
        ]
        # The last of equals: the tensor before a fused activation is clipped to the same.
        score, position = max(scored, default=(-np.inf, -1))
        if score >= EXPLAINED_DB and score > best.get(position, (-np.inf,))[0]:
            best[position] = (score, tensor.ends)
    return {position: ends for position, (_, ends) in best.items()}


def _some(flat: NDArray[Any]) -> NDArray[Any]:
    """Return a bounded number of an array's numbers, evenly spaced; not by an even number, which is one channel's."""
    return flat[:: flat.size // MATCHED | 1]
