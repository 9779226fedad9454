"""Keras to ONNX: through tf2onnx to one float32 graph in normal form, from there to every scheme.

Equal bytes for equal models, in every process and after any other exports. The batch size stays free. Inputs and
outputs are float32, under the Keras model's names, in every scheme.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts import ONNXFacts
from pipeline.errors import ModelError, PreconditionError, SecateurError
from pipeline.schemes import Quantization, Scheme, quantization_of
from stages.export.canonical import canonicalise, count_operators, serialise
from stages.export.onnx_schemes import (
    kept_nodes,
    quantize_activations,
    quantize_while_running,
    store_weights_in_half,
)
from stages.export.onnx_weights import store_weights_in_int8
from stages.quiet import Silence, quiet
from stages.runtimes import LoadedModel
from stages.samples import Progress, as_arrays, unheard
from stages.tf_runtime import import_keras

BATCH_SYMBOL = "batch"


def convert_onnx(
    model: Any,
    how: Quantization | Scheme,
    opset: int = 17,
    calibration: Any | None = None,
    progress: Progress = unheard,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The ONNX file of a Keras model.

    `calibration` is what int8 needs: float32 inputs (N, …), or a list with one an input; `progress` hears how many;
    `metadata` becomes the file's own properties. ModelError says what ONNX can't represent.
    """
    import_keras()  # sets what has to stand before ONNX Runtime's import
    how = quantization_of(how)
    with quiet() as silence:
        try:
            graph = canonicalise(_folded(_traced(model, opset)))
            by_name = {} if calibration is None else dict(zip(model.input_names, as_arrays(calibration), strict=True))
            kept = kept_nodes(graph, how, model, by_name)
            graph = canonicalise(_in_scheme(graph, how, by_name, progress, silence, kept))
            return serialise(_with_metadata(graph, metadata or {}))
        except SecateurError:
            raise
        except Exception as error:  # tf2onnx and ONNX Runtime raise whatever their passes raise
            reason = str(error).strip() or type(error).__name__
            raise ModelError(
                f"ONNX can't represent the model in {how.scheme}: {reason}",
                where=model.name,
                hint=silence.text()[-800:] or None,
            ) from error


def _traced(model: Any, opset: int) -> Any:
    """tf2onnx's graph, its transposes moved away, with one symbol for the batch."""
    import tf2onnx

    from stages.export.tf2onnx_passes import InPlacePasses

    passes = InPlacePasses()
    graph, _ = tf2onnx.convert.from_keras(model, opset=opset, optimizers={"in_place": lambda: passes})
    if not passes.finished:  # tf2onnx's own way leaves out just the pass that fails
        graph, _ = tf2onnx.convert.from_keras(model, opset=opset)
    for value, tensor in zip((*graph.graph.input, *graph.graph.output), (*model.inputs, *model.outputs), strict=True):
        if tensor.shape[0] is None:
            value.type.tensor_type.shape.dim[0].dim_param = BATCH_SYMBOL
    return graph


def _folded(graph: Any) -> Any:
    """What ONNX Runtime would do at every load, done once: constants folded, normalisations put into convolutions.

    Only its basic level, whose results are standard operators that any runtime has.
    """
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        path = Path(folder) / "folded.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 4
        onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        folded = onnx.load(path)
    folded.producer_name, folded.producer_version = graph.producer_name, graph.producer_version
    return folded


def _in_scheme(
    graph: Any,
    how: Quantization,
    calibration: Mapping[str, Any],
    progress: Progress,
    silence: Silence,
    kept: Sequence[str],
) -> Any:
    def heard(done: int, total: int) -> None:
        with silence.lifted():
            progress(done, total)

    match how.scheme:
        case "float32":
            return graph
        case "float16":
            return store_weights_in_half(graph)
        case "dynamic":
            return quantize_while_running(graph, kept)
        case "weight_only":
            return store_weights_in_int8(graph, per_channel=how.granularity != "per_tensor", left_out=kept)
        case "int8":
            return quantize_activations(graph, how, calibration, heard, kept)
        case "int16x8":
            raise PreconditionError("ONNX Runtime has no kernels for 16-bit activations on a CPU", where="onnx/int16x8")


def _with_metadata(graph: Any, metadata: Mapping[str, str]) -> Any:
    import onnx

    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, dict(sorted(metadata.items())))
    onnx.checker.check_model(graph)
    return graph


def onnx_facts(data: bytes, scheme: Scheme, loaded: LoadedModel) -> ONNXFacts:
    """Versions, inputs and outputs as the runtime sees them, and how often each operator occurs."""
    import onnx

    model = onnx.load_from_string(data)
    return ONNXFacts(
        scheme=scheme,
        opset=next(entry.version for entry in model.opset_import if entry.domain == ""),
        ir_version=model.ir_version,
        inputs=loaded.inputs,
        outputs=loaded.outputs,
        operators=count_operators(model),
    )
