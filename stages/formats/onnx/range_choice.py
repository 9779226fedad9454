"""Take the ranges whose graph errs least at the outputs: `calibration: auto` in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pipeline.records.schemes import Quantization
from stages.formats.calibration.choice import RangeChoice, by, choose, held_out
from stages.formats.format import Arrays
from stages.formats.onnx.closing import outputs_before_closing
from stages.formats.onnx.ranges import Measured, batches, histograms, put_ranges, ranges_by
from stages.samples.batches import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray


def best_ranges(
    quantization: ModuleType,
    source: Path,
    how: Quantization,
    calibration: Arrays,
    progress: Progress,
    target: Path,
    quantize: Callable[[Measured, Path], object],
    *,
    large: bool = False,
) -> tuple[Measured, RangeChoice]:
    """Write the ranges by the best method to `target`, and return them with the choice.

    `quantize` makes a graph with the ranges that `target` holds. One run over all samples counts their values, for
    every method and for both parts.
    """
    import onnx

    inputs = onnx.load(source, load_external_data=False).graph.input
    measured, judges = held_out(calibration)
    seen, unseen = histograms(quantization, source, calibration, [measured, judges], progress, large=large)

    def outputs_of(model: Path) -> list[NDArray[Any]]:
        return outputs_before_closing(model, (batch for batch, _ in batches(inputs, calibration, judges)))

    def outputs(tried: Quantization) -> list[NDArray[Any]]:
        candidate = source.with_name(f"{tried.calibration}.onnx")
        quantize(put_ranges(quantization, source, ranges_by(tried, seen), calibration, target), candidate)
        return outputs_of(candidate)

    choice = choose(how, outputs, outputs_of(source) if judges else [])
    ranges = ranges_by(by(how, choice.method), {name: seen[name] + unseen[name] for name in seen})
    return put_ranges(quantization, source, ranges, calibration, target), choice
