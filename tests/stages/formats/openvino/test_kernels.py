from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stages.formats.openvino import OpenVINO
from stages.formats.openvino.ir import graph_of, operators_of


def test_every_operator_is_in_one_kernel(path_of: Callable[[str], Path]) -> None:
    path, form = path_of("openvino/float32"), OpenVINO()
    kernels, _ = form.kernels(path, "tiny", {})
    held = form.operators_in(kernels, path)
    places = [place for found in held.values() for place in found]
    assert len(places) == len(set(places))
    assert sorted(places) == list(range(len(operators_of(graph_of(path)))))
