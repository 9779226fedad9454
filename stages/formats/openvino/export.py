"""Export a quantized model as an OpenVINO model, from its ONNX file: the parent's part and the child's."""

from __future__ import annotations

from typing import Any

from pipeline.contracts.stage import StageResult
from pipeline.records.facts import QuantizedFacts
from stages.formats.conversion import Context, compared, export_in, exported_apart, job_of, made_here
from stages.formats.onnx import ONNX
from stages.formats.onnx.export import FILE as ONNX_FILE
from stages.formats.onnx.session import LAYOUT
from stages.formats.onnx.settings import ONNXSettings
from stages.formats.openvino.facts import OpenVINOFacts

CONVERTER = "openvino"
FILE, DATA_FILE = "model.xml", "model.bin"
ALLOWED_LEFT_FREE = 1e-2  # rounding in 8 bits stays far below: both run the same kernels


def exported(context: Context, quantized: QuantizedFacts) -> StageResult:
    """Return the artifact: the graph, and the file of its constants."""
    made_of = export_in(context, ONNX.name).outputs[0]
    onnx_files = {name: context.read_made(made_of, name) for name in made_of.names}
    files = {FILE: "application/xml", DATA_FILE: "application/octet-stream"}
    return exported_apart(context, quantized, f"{__name__}:convert_here", OpenVINOFacts, files, given=onnx_files)


def convert_here(context: Context) -> dict[str, Any]:
    """Write the files into `work_dir`, next to the ONNX file; returns their facts and the difference from Keras."""
    from stages.formats.openvino.convert import openvino_facts, write_openvino
    from stages.formats.openvino.session import difference_left_free, load_openvino
    from stages.keras.tensorflow import tensorflow_action

    path, layout = context.work_dir / FILE, context.config.of(ONNXSettings).layout
    with tensorflow_action(context.seed, context.threads):
        job = job_of(context, CONVERTER)
        own = {LAYOUT: layout} if layout == "nchw" else {}
        write_openvino(context.work_dir / ONNX_FILE, path, job.quantized.scheme, {**job.metadata, **own})
        loaded, difference = compared(job, lambda: load_openvino(path))
        # Compared with the same file at fixed sizes and not with Keras, so that what 8 bits lose does not count.
        left_free = difference_left_free(path, job.by_name, loaded.run(job.by_name))
    if not left_free <= ALLOWED_LEFT_FREE:  # `not`, so that NaN is reported as well
        context.events.warned(
            f"OpenVINO computes something else where sizes stay free: outputs are {left_free:.1e} off (relative); "
            "fix them before you compile the model (`reshape`), or set export.batch: 1"
        )
    return made_here(openvino_facts(path, job.quantized.scheme, loaded.inputs, loaded.outputs), difference)
