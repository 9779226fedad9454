"""Put ranges into a calibrated file by the method that a scheme asks for, or by the one that costs the outputs least.

Only what operators compute is clipped. The network's inputs keep their smallest and largest value: a pixel at the end
of its range is as much the data's as any other, and nothing before it could make up for what is cut. LSTMs that keep a
state keep what the converter recorded, since state and output have one scale. Tensors that must share a scale need
nothing more: the quantizer gives a moved or pooled tensor the scale of what it is made from, and the parts of a
concatenation that of the whole. What it would do wrong is mended after any method (`make_usable`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.records.schemes import Quantization
from stages.formats.calibration.choice import RangeChoice, by, choose, held_out
from stages.formats.calibration.histograms import Histogram
from stages.formats.calibration.methods import limits
from stages.formats.format import Arrays
from stages.formats.tflite.closing import outputs_before_closing
from stages.formats.tflite.ranges import Ranges, make_usable
from stages.formats.tflite.true_ranges import histograms, made_tensors, put_true_ranges, spoiled_tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray


def put_ranges(ranges: Ranges, how: Quantization, arrays: Arrays) -> None:
    """Change the ranges of a calibrated file to those by `how.calibration` on `arrays`, the samples by input name."""
    if how.calibration in (None, "min_max"):
        put_true_ranges(ranges, arrays)
    else:
        every = range(len(next(iter(arrays.values()))))
        _put(ranges, how, histograms(ranges.data, made_tensors(ranges), arrays, every))
    make_usable(ranges, arrays)


def put_best_ranges(
    ranges: Ranges, how: Quantization, arrays: Arrays, quantize: Callable[[bytes], bytes]
) -> RangeChoice:
    """Change the ranges as `put_ranges` does, by the method whose file errs least at the outputs; `quantize` makes it.

    One run over all samples counts their values, for every method and for both parts.
    """
    calibrated, tensors = ranges.data, made_tensors(ranges)
    measured, judges = held_out(arrays)
    seen, unseen = (histograms(calibrated, tensors, arrays, picked) for picked in (measured, judges))

    def outputs(tried: Quantization) -> list[NDArray[Any]]:
        trial = Ranges(calibrated)
        _put(trial, tried, seen)
        make_usable(trial, arrays)
        return outputs_before_closing(quantize(trial.data), arrays, judges)

    wanted = outputs_before_closing(calibrated, arrays, judges) if judges else []
    choice = choose(how, outputs, wanted)
    every = {tensor: seen[tensor] + unseen[tensor] for tensor in tensors}
    if choice.method == "min_max":
        # The others keep what the converter recorded, so that the file is the same as with `min_max` itself.
        every = {tensor: every[tensor] for tensor in spoiled_tensors(ranges)}
    _put(ranges, by(how, choice.method), every)
    make_usable(ranges, arrays)
    return choice


def _put(ranges: Ranges, how: Quantization, found: Mapping[int, Histogram]) -> None:
    for tensor, histogram in found.items():
        ranges[tensor] = limits(histogram, how)
