"""Hold the ranges that ONNX files get against what the tensors really are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime.quantization
import pytest

from pipeline.records.schemes import Quantization
from stages.formats.onnx.convert import convert_onnx
from stages.formats.onnx.pads import NOT_NEGATIVE
from stages.formats.onnx.ranges import measure_ranges
from stages.formats.onnx.tensors import onnx_tensors
from stages.samples.input_ranges import MOVING

TAIL = 0.87  # percent cut off on each side


@pytest.mark.parametrize("batch", [None, 7])
@pytest.mark.parametrize("method", ["min_max", "percentile", "mse"])
def test_ranges_are_those_of_the_true_tensors_at_any_batch_size(
    method: Any, batch: int | None, tiny_xception: Any, tiny_images: Any, tmp_path: Path
) -> None:
    samples, source = tiny_images[:45], tmp_path / "source.onnx"  # 45: more than a batch, and a rest
    plain = convert_onnx(tiny_xception, "float32")
    model = onnx.shape_inference.infer_shapes(
        onnx.load_from_string(convert_onnx(tiny_xception, "float32", batch=batch))
    )
    onnx.save(model, source)
    percentile = 100 - 2 * TAIL if method == "percentile" else None
    how = Quantization(scheme="int8", calibration=method, percentile=percentile)
    told: list[tuple[int, int]] = []
    measured = measure_ranges(
        onnxruntime.quantization,
        source,
        how,
        {"image": samples},
        lambda done, total: told.append((done, total)),
        tmp_path / "ranges",
    ).ranges
    assert told[-1] == (45, 45)
    assert measured["image"] == pytest.approx((samples.min(), samples.max()), abs=0.02)
    kinds = {node.output[0]: node.op_type for node in model.graph.node}
    compared = 0
    for tensor in onnx_tensors(plain, {"image": samples}):
        values = tensor.values.ravel().astype(np.float64)
        if tensor.name not in measured or values.size < 300 or kinds[tensor.name] in MOVING:
            continue  # what only moves the input has its range
        low, high = measured[tensor.name]
        if method == "percentile":
            wanted = np.percentile(values, [TAIL, 100 - TAIL], method="inverted_cdf")
        else:
            wanted = np.array([values.min(), values.max()])
        if kinds[tensor.name] in NOT_NEGATIVE:
            wanted[0] = max(wanted[0], 0.0)
        extent = np.abs(values).max()
        if method == "mse":
            assert wanted[0] <= low + 1e-6 * extent
            assert 0.3 * wanted[1] < high <= wanted[1] * (1 + 1e-6)
        else:
            assert (low, high) == pytest.approx(tuple(wanted), abs=extent / 1000), tensor.name
        compared += 1
    assert compared > 3
