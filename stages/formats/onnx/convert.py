"""Convert Keras to ONNX: through tf2onnx to one float32 graph in normal form, from there to every scheme.

Equal models give equal bytes, in every process and after any other exports. Inputs and outputs are float32, under the
Keras model's names, in every scheme. A model too large for one file (2 GB) becomes two: the graph, and the data of its
large tensors.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import ModelError, PreconditionError, SecateurError
from pipeline.records.artifacts import TensorSpec
from pipeline.records.schemes import Quantization, Scheme, quantization_of
from pipeline.system.quiet import Silence, quiet
from stages.formats.calibration.choice import Chose, unchosen
from stages.formats.format import Arrays
from stages.formats.onnx.canonical import canonicalize, count_operators, serialize
from stages.formats.onnx.facts import ONNXFacts
from stages.formats.onnx.pads import keep_zeros
from stages.formats.onnx.schemes import (
    Told,
    kept_nodes,
    quantize_activations,
    quantize_while_running,
    store_weights_in_half,
    untold,
)
from stages.formats.onnx.session import LAYOUT, as_layout
from stages.formats.onnx.singletons import without_singletons
from stages.formats.onnx.tensor_data import LEAST_BYTES, message_bytes, move_outside
from stages.formats.onnx.traced import Graph, onnx_graph
from stages.formats.onnx.weights import store_weights_in_int8
from stages.formats.weight_types import onnx_weights
from stages.keras.inputs import as_arrays
from stages.keras.serving import Shapes, is_too_large, require_size, weight_bytes
from stages.keras.tensorflow import import_keras
from stages.keras.types import KerasModel
from stages.samples.batches import Progress, unheard

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

Layout = Literal["nhwc", "nchw"]


def convert_onnx(
    model: KerasModel,
    how: Quantization | Scheme,
    opset: int = 17,
    calibration: NDArray[Any] | Sequence[NDArray[Any]] | None = None,
    progress: Progress = unheard,
    metadata: Mapping[str, Any] | None = None,
    layout: Layout = "nhwc",
    batch: int | None = None,
    shapes: Shapes | None = None,
    beside: Path | None = None,
    told: Told = untold,
    chose: Chose = unchosen,
) -> bytes:
    """Return the ONNX file of a Keras model.

    `calibration` is needed for int8: float32 inputs (N, …) as Keras takes them, or a list with one per input;
    `progress` hears how many, `told` gets notes on differences from the request, `chose` hears which ranges
    `calibration: auto` took. `metadata` becomes the file's own properties. With the `layout` nchw, inputs of rank 4
    have their channels first, and the properties say so. `batch` is the batch size, free if None; `shapes` are the
    other sizes if the model leaves them free. `beside` is where the data of large tensors goes if one file does not
    hold the model, and only then is it written: the file refers to it by its name, so both belong in one folder.
    ModelError says what ONNX can't represent.
    """
    import_keras()  # sets what ONNX Runtime's import requires
    how = quantization_of(how)
    large = is_too_large(weight_bytes(model))
    if beside is None:
        require_size(model, "one ONNX file", "name a second one, for the data of large tensors: beside=…")
    # Set before quantization: `kept_nodes` runs the graph on Keras' samples, and reads from it how to turn them.
    own = {LAYOUT: layout} if layout == "nchw" else {}
    with quiet() as silence, tempfile.TemporaryDirectory(prefix="secateur-") as name:
        folder = Path(name)
        with _in_words_of_ours(model, how, silence):
            traced = onnx_graph(model, opset, layout, batch, shapes)
            graph = _with_properties(_folded(traced, folder, outside=large), own)
            if how.scheme != "float32":
                by_name = _by_input(model, calibration)
                kept = kept_nodes(graph, how, model, by_name, folder)
                turned = {name: as_layout(values, layout) for name, values in by_name.items()}
                heard, noted = _lifted(silence, progress), _lifted(silence, told)
                graph = _in_scheme(graph, how, turned, heard, kept, folder, noted, chose)
                # Again, after the quantizer: it adds nodes and names in the order of its own dictionaries.
                graph = canonicalize(graph, folder, outside=large)
            graph = _with_properties(graph, {**(metadata or {}), **own})
            if beside is not None and is_too_large(message_bytes(graph)):
                return _in_two_files(graph, folder, beside)
            return _in_one_file(graph, folder, large=large)


@contextmanager
def _in_words_of_ours(model: KerasModel, how: Quantization, silence: Silence) -> Iterator[None]:
    """Raise ModelError for what tf2onnx and ONNX Runtime raise, with what they printed."""
    try:
        yield
    except SecateurError:
        raise
    except Exception as error:  # whatever their passes raise
        reason = str(error).strip() or type(error).__name__
        raise ModelError(
            f"ONNX can't represent the model in {how.scheme}: {reason}",
            where=model.name,
            hint=silence.text()[-800:] or None,
        ) from error


def _by_input(model: KerasModel, calibration: NDArray[Any] | Sequence[NDArray[Any]] | None) -> dict[str, NDArray[Any]]:
    return {} if calibration is None else dict(zip(model.input_names, as_arrays(calibration), strict=True))


def _in_one_file(graph: ModelProto, folder: Path, *, large: bool) -> bytes:
    """Return the graph's bytes, all tensors in them."""
    import onnx

    # A large model that a scheme made small: canonicalizing takes the data from other files into the message.
    data = serialize(canonicalize(graph, folder) if large else graph)
    onnx.checker.check_model(data)
    return data


def _in_two_files(graph: ModelProto, folder: Path, beside: Path) -> bytes:
    """Return the graph's bytes, with the data of its large tensors in `beside`."""
    import onnx

    move_outside(graph, folder, beside)
    data = serialize(graph)
    with tempfile.NamedTemporaryFile(dir=beside.parent, suffix=".onnx") as checked:  # the check looks for the data
        checked.write(data)
        checked.flush()
        # By path: given a message the checker serializes it, and above 2 GB that fails
        # (https://github.com/onnx/onnx/issues/3273).
        onnx.checker.check_model(checked.name)
    return data


def _folded(graph: Graph, folder: Path, *, outside: bool) -> ModelProto:
    """Do once what ONNX Runtime would do at every load: fold constants, merge normalizations into convolutions.

    Uses only its basic level, whose results are standard operators that any runtime has. In normal form. Weights lie in
    files next to the graphs, in `folder`, so that no message but the last holds a copy of them, and none does if they
    stay `outside`.
    """
    import onnx
    import onnxruntime

    # Before folding: ONNX Runtime folds a normalization into a convolution only if no axis is dropped and inserted in
    # between.
    without_singletons(graph.model)
    # Before it as well: PadFusion belongs to the basic level (seen in 1.31.1).
    keep_zeros(graph.model)
    graph.save(folder / "traced.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "folded.onnx")
    options.log_severity_level = 4
    # This session only folds and runs nothing: an arena and prepacked kernels would be a second copy of the weights.
    options.enable_cpu_mem_arena = False
    for key, value in (
        ("session.disable_prepacking", "1"),
        ("session.optimized_model_external_initializers_file_name", "folded.bin"),
        ("session.optimized_model_external_initializers_min_size_in_bytes", str(LEAST_BYTES)),
    ):
        options.add_session_config_entry(key, value)
    onnxruntime.InferenceSession(folder / "traced.onnx", options, providers=["CPUExecutionProvider"])
    graph.forget(folder / "traced.onnx")
    folded = onnx.load(folder / "folded.onnx", load_external_data=False)
    folded.producer_name, folded.producer_version = graph.model.producer_name, graph.model.producer_version
    return canonicalize(folded, folder, outside=outside)


def _lifted(silence: Silence, callback: Callable[..., None]) -> Callable[..., None]:
    """Wrap a callback into our own code so that it runs outside the silence."""

    def called(*values: object) -> None:
        with silence.lifted():
            callback(*values)

    return called


def _in_scheme(
    graph: ModelProto,
    quantization: Quantization,
    calibration: Arrays,
    progress: Progress,
    kept: Sequence[str],
    folder: Path,
    told: Told,
    chose: Chose,
) -> ModelProto:
    match quantization.scheme:
        case "float32":
            return graph
        case "float16":
            return store_weights_in_half(graph, folder)
        case "dynamic":
            return quantize_while_running(graph, folder, kept)
        case "weight_only":
            return store_weights_in_int8(
                graph, folder, per_channel=quantization.granularity != "per_tensor", left_out=kept
            )
        case "int8":
            return quantize_activations(graph, quantization, calibration, progress, folder, kept, told, chose)
        case "int16x8":
            raise PreconditionError("ONNX Runtime has no kernels for 16-bit activations on a CPU", where="onnx/int16x8")
        case "int4_weight_only" | "int4_dynamic":
            raise PreconditionError("4-bit weights are made for TFLite only", where=f"onnx/{quantization.scheme}")


def _with_properties(graph: ModelProto, metadata: Mapping[str, Any]) -> ModelProto:
    """Add properties to `graph`; they are strings, so other values become JSON."""
    import onnx

    del graph.metadata_props[:]
    texts = {name: v if isinstance(v, str) else json.dumps(v, sort_keys=True) for name, v in sorted(metadata.items())}
    onnx.helper.set_model_props(graph, texts)
    return graph


def onnx_facts(
    data: bytes, scheme: Scheme, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> ONNXFacts:
    """Return versions, `inputs` and `outputs` as the runtime sees them, and how often each operator occurs."""
    import onnx

    model = onnx.load_from_string(data)
    return ONNXFacts(
        scheme=scheme,
        opset=next(entry.version for entry in model.opset_import if entry.domain == ""),
        ir_version=model.ir_version,
        inputs=inputs,
        outputs=outputs,
        operators=count_operators(model),
        weights=onnx_weights(model),
    )
