"""Measure the ranges of activations on calibration samples, in the form that ONNX Runtime's quantizer takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pipeline.records.schemes import Quantization
from stages.formats.format import Arrays
from stages.formats.onnx.pads import NOT_NEGATIVE
from stages.samples.batches import Progress, batches_of
from stages.samples.input_ranges import inputs_off_the_ties

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, ValueInfoProto
    from onnxruntime.quantization import CalibrationMethod

# ONNX Runtime's calibrators keep every activation of a batch: 32 images of 299×299 kept 8 GB.
CALIBRATION_BATCH, CALIBRATION_NUMBERS = 32, 2**20  # samples per batch, and numbers in them
ENTROPY_BINS = 512  # candidates for the range: more take longer, for each tensor
NOTHING = 1e-20  # a smaller range means zeros
STEPS = 255  # between the smallest and the largest of 8 bits
LIMITS_TRIED = 256  # on each side of zero, for the least squared error


@dataclass(frozen=True, slots=True)
class Measured:
    """Hold how ranges were measured, in the quantizer's terms, and the ranges (min, max) by tensor."""

    method: CalibrationMethod
    ranges: Mapping[str, tuple[float, float]]


def measure_ranges(
    quantization: ModuleType,
    source: Path,
    how: Quantization,
    calibration: Arrays,
    progress: Progress,
    target: Path,
    *,
    large: bool = False,
) -> Measured:
    """Write the ranges of all tensors of `source` to `target`, in the quantizer's own form.

    A `large` model exceeds one file.

    Works batch by batch: given all samples at once, its calibrators keep every activation of each. Its own settings are
    for symmetric ranges in percentile, of which activations after a ReLU would waste half, and 128 bins in entropy, as
    many as there are steps, so that there is nothing to choose. It has no least-squares method: that is computed here,
    from the histograms that it collects.
    """
    import numpy as np
    import onnx
    from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data

    methods = quantization.CalibrationMethod
    # `mse` collects as percentile does and computes its range itself below, so the quantizer needs no method of that
    # name.
    by_histogram = {"percentile": methods.Percentile, "entropy": methods.Entropy, "mse": methods.Percentile}
    method = by_histogram.get(how.calibration or "", methods.MinMax)
    options: dict[str, Any] = {"symmetric": False}
    if method == methods.Entropy:
        options["num_bins"] = ENTROPY_BINS
    if how.percentile is not None:
        options["percentile"] = how.percentile
    augmented = str(source.with_suffix(".augmented"))
    quantized = onnx.load(source, load_external_data=False)
    calibrator = quantization.create_calibrator(
        source, None, augmented, method, use_external_data_format=large, extra_options=options
    )
    # Upstream keeps all activations on purpose, and advises to feed data in parts
    # (https://github.com/microsoft/onnxruntime/issues/11020).
    for batch in _batches(calibrator.model.graph.input, calibration, progress):
        calibrator.collect_data(_OneBatch(batch))
    if how.calibration == "mse":
        histograms = calibrator.collector.get_histogram_dict()
        best = {name: least_square_error(*histogram[:4]) for name, histogram in histograms.items()}
        collected = TensorsData(method, {name: (*best[name], *histograms[name][:2]) for name in best})
    else:
        collected = calibrator.compute_data()
    # `collected` stays as the quantizer's own object: it is written to a file in the quantizer's form, with only the
    # limits changed.
    measured = {name: (data.lowest.item(), data.highest.item()) for name, data in collected.items()}
    ranges = inputs_off_the_ties(quantized.graph, usable_ranges(quantized, measured), calibration)
    for name in ranges:
        if ranges[name] != measured[name]:
            collected[name].lowest, collected[name].highest = (np.array(limit, np.float32) for limit in ranges[name])
    save_tensors_data(collected, target)
    return Measured(method, ranges)


def usable_ranges(model: ModelProto, measured: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Make ranges usable: nonnegative tensors get no negative part, and tensors that were always zero get a step size.

    The quantizer (1.31.1) omits a ReLU if the range of its output does the same. It gives zeros the scale 1.0 around
    zero: then a ReLU that calibration never activated disappears, and the bias of what reads it is lost. It gets the
    range of its input, so that it activates like the network's other parts.
    """
    ranges = dict(measured)
    for node in model.graph.node:
        positive = node.op_type in NOT_NEGATIVE
        # Nodes are in the order of execution, so the input of a silent node has been made usable before.
        before = max(map(abs, ranges.get(node.input[0] if node.input else "", (1.0, 1.0))))
        room = before if before > NOTHING else 1.0
        for name in (name for name in node.output if name in ranges):
            low, high = ranges[name]
            if max(abs(low), abs(high)) <= NOTHING:
                ranges[name] = (0.0 if positive else -room, room)
            elif positive and low < 0:
                ranges[name] = (0.0, high)
    return ranges


def least_square_error(
    counts: NDArray[Any], edges: NDArray[Any], low: Any, high: Any
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the range whose 8 bits lose least of a histogram, by squared error: scalar arrays of `low`'s dtype.

    `counts` (N,) of the values between `edges` (N + 1,), of which `low` and `high` are the extremes. What lies outside
    is clipped to the range, what lies inside is rounded, on average by a twelfth of the squared step (Choukroun et al.,
    "Low-bit Quantization of Neural Networks for Efficient Inference", 2019). Zero is a step of every range, and values
    next to it, most of a ReLU's output, are not rounded.
    """
    import numpy as np

    middles, counts = (edges[:-1] + edges[1:]).astype(np.float64) / 2, counts.astype(np.float64)
    lows, highs = (np.linspace(0.0, float(limit), LIMITS_TRIED) for limit in (min(low, 0), max(high, 0)))
    cut = _cut(highs, middles, counts) + _cut(-lows, -middles[::-1], counts[::-1])[:, None]
    # Values within one bin around zero: the histogram cannot tell exact zeros from them.
    width = edges[-1] - edges[-2]
    up_to = np.cumsum(np.concatenate([[0.0], np.where(np.abs(middles) < width, 0.0, counts)]))
    inside = up_to[np.searchsorted(middles, highs, "right")] - up_to[np.searchsorted(middles, lows)][:, None]
    error = cut + inside * ((highs - lows[:, None]) / STEPS) ** 2 / 12
    least, greatest = np.unravel_index(np.argmin(error), error.shape)
    return np.array(lows[least], low.dtype), np.array(highs[greatest], low.dtype)


def _cut(limits: NDArray[Any], middles: NDArray[Any], counts: NDArray[Any]) -> NDArray[Any]:
    """Return the summed squared distance from each of `limits` to what lies beyond it; `middles` ascend."""
    import numpy as np

    powers = np.stack([counts, counts * middles, counts * middles**2])
    beyond = np.concatenate([np.cumsum(powers[:, ::-1], axis=1)[:, ::-1], np.zeros((3, 1))], axis=1)
    number, first, second = beyond[:, np.searchsorted(middles, limits, "right")]
    # Expanded squares: differences of large sums come out slightly below zero.
    summed: NDArray[Any] = np.maximum(second - 2 * limits * first + limits**2 * number, 0.0)
    return summed


class _OneBatch:
    """Implement ONNX Runtime's CalibrationDataReader, which checks for its base class by name only."""

    def __init__(self, batch: dict[str, Any]) -> None:
        self._left = [batch]

    def get_next(self) -> dict[str, Any] | None:
        return self._left.pop() if self._left else None


def _batches(inputs: Sequence[ValueInfoProto], calibration: Arrays, progress: Progress) -> Iterator[dict[str, Any]]:
    """Yield all samples; if the batch size is fixed, the last batch repeats a sample."""
    import onnx

    types = {value.name: onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) for value in inputs}
    count = len(next(iter(calibration.values())))
    fixed = inputs[0].type.tensor_type.shape.dim[0].dim_value
    numbers = sum(values[0].size for values in calibration.values())
    size = max(1, min(CALIBRATION_BATCH, count, CALIBRATION_NUMBERS // numbers))
    for picked in batches_of(count, fixed or size):
        yield {name: calibration[name][picked].astype(kind, copy=False) for name, kind in types.items()}
        progress(picked[-1] + 1, count)
