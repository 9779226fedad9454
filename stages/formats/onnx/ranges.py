"""Measure the ranges of activations on calibration samples, in the form that ONNX Runtime's quantizer takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pipeline.records.schemes import Quantization
from stages.formats.calibration.histograms import Histogram
from stages.formats.calibration.methods import limits
from stages.formats.format import Arrays
from stages.formats.onnx.pads import NOT_NEGATIVE
from stages.samples.batches import Progress, batches_of, unheard
from stages.samples.input_ranges import inputs_off_the_ties

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto
    from onnxruntime.quantization import CalibrationMethod

# ONNX Runtime's calibrators keep every activation of a batch: 32 images of 299×299 kept 8 GB.
CALIBRATION_BATCH, CALIBRATION_NUMBERS = 32, 2**20  # samples per batch, and numbers in them
ENTROPY_BINS = 512  # candidates for the range: more take longer, for each tensor
NOTHING = 1e-20  # a smaller range means zeros


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

    ONNX Runtime's calibrators measure extremes and entropy, batch by batch: given all samples at once, they keep every
    activation of each. Entropy's own 128 bins are as many as there are steps, so that there is nothing to choose. Its
    histograms depend on the order of samples, and it has no least-squares method: percentiles and least squares are
    computed here, from histograms of our own.
    """
    every = range(len(next(iter(calibration.values()))))
    if how.calibration in ("percentile", "mse"):
        (found,) = histograms(quantization, source, calibration, [every], progress, large=large)
        return put_ranges(quantization, source, ranges_by(how, found), calibration, target)
    methods = quantization.CalibrationMethod
    method = methods.Entropy if how.calibration == "entropy" else methods.MinMax
    options: dict[str, Any] = {"symmetric": False} | ({"num_bins": ENTROPY_BINS} if method == methods.Entropy else {})
    calibrator = _calibrator(quantization, source, method, options, large=large)
    # Upstream keeps all activations on purpose, and advises to feed data in parts
    # (https://github.com/microsoft/onnxruntime/issues/11020).
    for batch, _ in batches(calibrator.model.graph.input, calibration, every, progress):
        calibrator.collect_data(_OneBatch(batch))
    measured = {name: (data.lowest.item(), data.highest.item()) for name, data in calibrator.compute_data().items()}
    return put_ranges(quantization, source, measured, calibration, target)


def histograms(
    quantization: ModuleType,
    source: Path,
    calibration: Arrays,
    parts: Sequence[Sequence[int]],
    progress: Progress,
    *,
    large: bool = False,
) -> list[dict[str, Histogram]]:
    """Return the values of all tensors of `source`, by name, on each of the `parts` of the samples."""
    # Its calibrator only gives the model with every tensor among its outputs.
    calibrator = _calibrator(quantization, source, quantization.CalibrationMethod.Percentile, {}, large=large)
    session, wanted = calibrator.infer_session, sorted(calibrator.tensors_to_calibrate)
    found = [{name: Histogram() for name in wanted} for _ in parts]
    done, total = 0, sum(map(len, parts))
    for part, tensors in zip(parts, found, strict=True):
        for batch, count in batches(calibrator.model.graph.input, calibration, part):
            share = count / len(next(iter(batch.values())))
            for name, values in zip(wanted, session.run(wanted, batch), strict=True):
                tensors[name].add(values, share)
            done += count
            progress(done, total)
    return found


def ranges_by(how: Quantization, found: Mapping[str, Histogram]) -> dict[str, tuple[float, float]]:
    """Return the range of each tensor by `how.calibration`."""
    return {name: limits(histogram, how) for name, histogram in found.items()}


def put_ranges(
    quantization: ModuleType,
    source: Path,
    measured: Mapping[str, tuple[float, float]],
    calibration: Arrays,
    target: Path,
) -> Measured:
    """Write `measured` ranges to `target`, in the quantizer's own form, after they were made usable.

    The network's inputs keep their extremes: a pixel at the end of its range is as much the data's as any other.
    """
    import numpy as np
    import onnx
    from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data

    model = onnx.load(source, load_external_data=False)
    inputs = {name: (float(values.min()), float(values.max())) for name, values in calibration.items()}
    whole = {name: inputs.get(name, limits) for name, limits in measured.items()}
    ranges = inputs_off_the_ties(model.graph, usable_ranges(model, whole), calibration)
    method = quantization.CalibrationMethod.MinMax  # the quantizer asks for no more than limits
    pairs = {name: (np.array(low, np.float32), np.array(high, np.float32)) for name, (low, high) in ranges.items()}
    save_tensors_data(TensorsData(method, pairs), target)
    return Measured(method, ranges)


def _calibrator(
    quantization: ModuleType, source: Path, method: CalibrationMethod, options: Mapping[str, Any], *, large: bool
) -> Any:
    augmented = str(source.with_suffix(".augmented"))
    return quantization.create_calibrator(
        source, None, augmented, method, use_external_data_format=large, extra_options=dict(options)
    )


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


class _OneBatch:
    """Implement ONNX Runtime's CalibrationDataReader, which checks for its base class by name only."""

    def __init__(self, batch: dict[str, Any]) -> None:
        self._left = [batch]

    def get_next(self) -> dict[str, Any] | None:
        return self._left.pop() if self._left else None


def batches(
    inputs: Sequence[ValueInfoProto], calibration: Arrays, picked: Sequence[int], progress: Progress = unheard
) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the `picked` samples, and how many they are; if the batch size is fixed, the last repeats one of them."""
    import onnx

    types = {value.name: onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) for value in inputs}
    count = len(picked)
    fixed = inputs[0].type.tensor_type.shape.dim[0].dim_value
    numbers = sum(values[0].size for values in calibration.values())
    size = max(1, min(CALIBRATION_BATCH, count, CALIBRATION_NUMBERS // numbers))
    for places in batches_of(count, fixed or size):
        once = list(dict.fromkeys(places))
        batch = [picked[place] for place in (places if fixed else once)]
        yield {name: calibration[name][batch].astype(kind, copy=False) for name, kind in types.items()}, len(once)
        progress(places[-1] + 1, count)
