"""Convert ONNX files to OpenVINO's format with its frontend, simplified as `openvino.convert_model` does.

`convert_model` itself is not used: it folds half-precision weights back into float32. Equal models give equal files,
in every process and after any other conversions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UnsupportedError
from pipeline.records.artifacts import TensorSpec
from pipeline.records.schemes import Scheme
from pipeline.system.quiet import quiet
from stages.formats.openvino.facts import OpenVINOFacts
from stages.formats.openvino.ir import (
    MATRIX,
    data_file,
    graph_of,
    in_normal_form,
    operators_counted,
    weights_in,
)
from stages.formats.openvino.opener import PRECISION
from stages.formats.openvino.session import import_openvino, said

if TYPE_CHECKING:
    from openvino import Model as OvModel


def write_openvino(source: Path, target: Path, scheme: Scheme, metadata: Mapping[str, Any]) -> None:
    """Write the model `target`, an XML file, and its data next to it, from an ONNX file.

    UnsupportedError if OpenVINO can't represent what the file computes.
    """
    openvino = import_openvino()
    from openvino._offline_transformations import apply_moc_transformations  # as its own converter does

    with quiet() as silence:
        try:
            model = openvino.Core().read_model(str(source))
            # With the arguments of OpenVINO's own converter (openvino/tools/ovc/moc_frontend/moc_emit_ir.py, 2026.4.1).
            apply_moc_transformations(model, cf=False, smart_reshape=True)
            if scheme == "float16":
                _store_in_half(model)
            # The default compresses every float32 constant, also those of a float32 export.
            openvino.save_model(model, str(target), compress_to_fp16=False)
        except Exception as error:  # it raises RuntimeError, and pybind11 what it likes
            what = f"OpenVINO can't represent the model in {scheme}: {said(error)}"
            raise UnsupportedError(what, hint=silence.text()[-800:] or None) from error
    texts = {name: v if isinstance(v, str) else json.dumps(v, sort_keys=True) for name, v in metadata.items()}
    target.write_bytes(in_normal_form(graph_of(target), texts))
    data = data_file(target)
    if not data.stat().st_size:  # a graph without constants: an empty file can't be mapped
        data.write_bytes(b"\0")


def _store_in_half(model: OvModel) -> None:
    """Store weights that half precision holds exactly, as those of the ONNX file, in it, and cast them up."""
    import numpy as np
    from openvino import opset13

    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or str(node.get_element_type()) != "<Type: 'float32'>":
            continue
        values = node.data
        # Biases and scales stay float32, as in the ONNX file.
        if sum(size > 1 for size in values.shape) < MATRIX:
            continue
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            continue
        cast = opset13.convert(opset13.constant(half), "f32")
        for reader in node.output(0).get_target_inputs():
            reader.replace_source_output(cast.output(0))


def openvino_facts(
    model: Path, scheme: Scheme, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> OpenVINOFacts:
    """Return the facts of a model; `inputs` and `outputs` are as the runtime sees them."""
    root = graph_of(model)
    return OpenVINOFacts(
        scheme=scheme,
        ir_version=int(root.get("version", "0")),
        inference_precision=PRECISION,
        inputs=inputs,
        outputs=outputs,
        operators=operators_counted(root),
        weights=weights_in(root),
    )
