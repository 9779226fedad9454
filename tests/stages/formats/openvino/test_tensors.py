"""What OpenVINO shows of its operators: their outputs, what they cost, and the layers in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.devices.profile import Origin, profile
from stages.devices.target import find_target
from stages.formats.layers.operators import layers_of_operators
from stages.formats.openvino import OpenVINO
from stages.formats.openvino.ir import graph_of, operators_of
from stages.formats.registry import load_exported

KIND = "openvino-model"
LAYERS = {"stem", "separable", "head"}


@pytest.mark.parametrize("scheme", ["float32", "float16", "int8"])
def test_every_operator_shows_what_it_computes(path_of: Callable[[str], Path], tiny_images: Any, scheme: str) -> None:
    path, form = path_of(f"openvino/{scheme}"), OpenVINO()
    sample = {"image": tiny_images[:1]}
    shown = list(form.tensors(path, sample))
    operators = operators_of(graph_of(path))
    assert [tensor.operator for tensor in shown] == list(range(len(operators)))
    (whole,) = (tensor.values for tensor in shown if tensor.name == "head")
    np.testing.assert_allclose(
        whole, load_exported(KIND, path).run(sample)["head"], atol=0.05 if scheme == "int8" else 1e-6
    )
    reads = form.reads(path)
    assert len(reads) == len(operators)
    assert all(source < place for place, sources in enumerate(reads) for source in sources)
    quantized = [tensor for tensor in shown if tensor.ends is not None]
    assert (len(quantized) >= 4) == (scheme == "int8")
    for tensor in quantized:
        low, high = tensor.ends or (0, 0)
        assert low - 1e-4 <= tensor.values.min() <= tensor.values.max() <= high + 1e-4


@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_layers_are_found_by_what_operators_compute(
    path_of: Callable[[str], Path], tiny_xception: Any, tiny_images: Any, scheme: str
) -> None:
    path = path_of(f"openvino/{scheme}")
    found = layers_of_operators(tiny_xception, KIND, path, {"image": tiny_images[:1]})
    kinds = [str(layer.get("type")) for layer in operators_of(graph_of(path))]
    by_kind = {
        kind: layers for kind, layers in zip(kinds, found, strict=True) if kind in ("GroupConvolution", "MatMul")
    }
    assert "separable" in by_kind["GroupConvolution"]
    assert "head" in by_kind["MatMul"]


@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_a_profile_adds_up_and_names_layers(
    path_of: Callable[[str], Path], tiny_xception: Any, tiny_images: Any, scheme: str
) -> None:
    path = path_of(f"openvino/{scheme}")
    found = profile(find_target("cpu"), path, "tiny", Origin(tiny_xception, {"image": tiny_images[:1]}))
    assert found.runtime == "openvino 2026.4.1"
    assert found.unit == "nanoseconds"
    assert found.total == sum(operator.cost for operator in found.operators) > 0
    assert all(operator.cost >= 0 for operator in found.operators)
    assert {"Convolution", "GroupConvolution"} <= {operator.kind for operator in found.operators}
    assert {layer for operator in found.operators for layer in operator.layers} >= LAYERS
