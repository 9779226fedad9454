"""Evaluate an ONNX file with the standard's own evaluator, to check that it says what ONNX Runtime computes.

A file may be right for one runtime alone if that reads the standard loosely, for example a size that follows from a
rounded scale. onnx's own evaluator is written after the standard's text and shares nothing with ONNX Runtime. It is
inherently slow (0.1 s on 30 million MACs) and has bugs of its own, so that it can only warn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.system.quiet import quiet
from stages.formats.onnx.session import LAYOUT, as_layout
from stages.keras.normal_form import relative_difference

MOST_MACS = 20_000_000
ALLOWED = 1e-3  # the same as ONNX Runtime may differ from Keras
# Where onnx 1.23.2 deviates from its own standard: recurrent layers lose an axis at batch 1.
MISREAD = frozenset({"RNN", "GRU", "LSTM", "LRN"})
LOOPS = frozenset({"Loop", "Scan"})  # step by step in Python


def reading_of_the_standard(data: bytes, samples: Mapping[str, Any], actual: Mapping[str, Any]) -> str | None:
    """Warn if the evaluator does not compute `actual`, ONNX Runtime's outputs on `samples`; both by name.

    None if it does, and if it can't tell: for operators that it lacks, or is known to misread.
    """
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load_from_string(data)
    # Asked before anything runs: an evaluator that is wrong about a layer would make users distrust a right file.
    if {node.op_type for node in model.graph.node} & (MISREAD | LOOPS):
        return None
    layout = next((entry.value for entry in model.metadata_props if entry.key == LAYOUT), "")
    names = list(actual)
    with quiet():
        try:
            evaluator = ReferenceEvaluator(model)
            outputs = evaluator.run(names, {name: as_layout(values, layout) for name, values in samples.items()})
        except Exception:  # noqa: BLE001 - its operators, or numpy in them, raise anything where they lack something
            return None
    for name, values in zip(names, outputs, strict=True):
        if values.shape != actual[name].shape:
            return _said(f"gives output {name!r} the shape {values.shape}, ONNX Runtime {actual[name].shape}")
        difference = relative_difference(actual[name], values)
        if not difference <= ALLOWED:
            return _said(f"differs from ONNX Runtime by {difference:.1e} (relative) in output {name!r}")
    return None


def _said(finding: str) -> str:
    return (
        f"onnx's own evaluator {finding}: other runtimes may read this file otherwise, too; run it in yours before use"
    )
