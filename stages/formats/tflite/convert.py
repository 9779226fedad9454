"""Convert Keras to TFLite: one signature, batch size 1, equal bytes for equal models in every process.

The converter's own `from_keras_model` first saves the whole Keras object, a traced function for every layer, which
takes most of its time. Here one function is traced, with the batch fixed at 1 so that reshapes become constants, and
saved with the bare variables: the same operators in a quarter of the time.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import ModelError, SecateurError, UnsupportedError
from pipeline.records.artifacts import TensorSpec
from pipeline.records.schemes import Quantization, Scheme, quantization_of
from pipeline.system.quiet import Silence, quiet
from stages.formats.calibration.choice import Chose, unchosen
from stages.formats.format import Arrays
from stages.formats.layers.owners import lacking, paths_of
from stages.formats.tflite.facts import TFLiteFacts
from stages.formats.tflite.few_channels import with_more_channels
from stages.formats.tflite.lone_relus import without_lone_relus
from stages.formats.tflite.recurrent import (
    RESET,
    Form,
    Recurrent,
    first_form,
    has_loops,
    keep_loops,
    keeps_state,
    recurrent_layers,
    unrolled,
)
from stages.formats.tflite.schemes import (
    between_calibration_and_quantization,
    by_edge_quantizer,
    configure,
    leaves_small_kernels,
    quantize_weights,
)
from stages.formats.tflite.session import SIGNATURE
from stages.formats.tflite.tensors import count_operators
from stages.formats.weight_types import tflite_weights
from stages.keras.free_sizes import shapes_of
from stages.keras.inputs import as_arrays
from stages.keras.serving import Shapes, input_specs, require_fixed, require_size, serving_function
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasModel
from stages.samples.batches import Progress, batches_of, unheard

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNSUPPORTED = "not yet supported for op"  # the converter's words for an operator that a scheme lacks
METADATA_NAME = b"secateur.json"


def convert_tflite(
    model: KerasModel,
    how: Quantization | Scheme,
    io: Literal["float32", "int8", "int16"] = "float32",
    calibration: NDArray[Any] | Sequence[NDArray[Any]] | None = None,
    progress: Progress = unheard,
    metadata: Mapping[str, Any] | None = None,
    shapes: Shapes | None = None,
    saved: str | None = None,
    recurrent: Recurrent = "auto",
    chose: Chose = unchosen,
) -> bytes:
    """Return the TFLite file of a Keras model; `io` is the type of an int8 or int16x8 file's inputs and outputs.

    These need `calibration`: float32 inputs (N, …), or a list with one per input; `progress` hears how many were
    processed; `metadata` goes into the file as JSON, under `secateur.json`; `shapes` are sizes that the model leaves
    free. `saved` is a folder in which `save_function` has put this model, if it is converted in several schemes.
    `recurrent` is the form of recurrent layers (see `recurrent.py`); the metadata say whether a file keeps state
    between calls; `chose` hears which ranges `calibration: auto` took. ModelError says which operators TFLite lacks,
    and whose they are.
    """
    tf, how = import_tensorflow(), quantization_of(how)
    require_size(model, "a TFLite file", "export it to ONNX, which keeps large weights in a second file, or prune it")
    with tempfile.TemporaryDirectory(prefix="secateur-") as scratch, quiet() as silence, _never_loaded():
        try:
            if saved is None:
                saved = f"{scratch}/first"
                save_function(model, saved, shapes, first_form(model, how, recurrent))
            # Found by making the float32 file: a loop that is still in it crashes the converter in integers, in C++ and
            # without an error (https://github.com/tensorflow/tensorflow/issues/76672, issues/87468).
            if how.calibrated and has_loops(saved) and not _fuses(tf, saved):
                saved = _unrolled(model, f"{scratch}/unrolled", how, shapes, recurrent)
            if how.calibrated:
                arrays = _arrays(model, calibration)
                data = _calibrated(tf, model, how, io, saved, arrays, partial(_heard, progress, silence), chose)
            else:
                data = _converted(tf, model, how, saved)
            return with_metadata(data, metadata and {**metadata, **_state(data)})
        except SecateurError:
            raise
        except Exception as error:  # the converter raises whatever its passes raise
            output, missing = silence.text(), _missing(error)
            if missing:
                raise UnsupportedError(
                    lacking(model, "TFLite", missing),
                    where=model.name,
                    hint="replace these layers by ones of standard operators",
                ) from error
            kind = UnsupportedError if UNSUPPORTED in str(error) else ModelError
            raise kind(
                f"TFLite can't represent the model: {str(error).strip() or type(error).__name__}",
                where=model.name,
                hint=output[-800:] or None,
            ) from error


def _converted(tf: ModuleType, model: KerasModel, quantization: Quantization, saved: str) -> bytes:
    """Convert a SavedModel in a scheme that takes no samples."""
    converter = tf.lite.TFLiteConverter.from_saved_model(saved)
    configure(tf, converter, quantization, "float32")
    data = bytes(converter.convert())
    if by_edge_quantizer(quantization):
        return quantize_weights(data, quantization, model)
    if quantization.scheme == "dynamic" and leaves_small_kernels(data):
        # Both are right: the smaller one is what this scheme is chosen for.
        return min(data, quantize_weights(_in_float(tf, saved), quantization, model), key=len)
    return data


def _calibrated(
    tf: ModuleType,
    model: KerasModel,
    quantization: Quantization,
    io: str,
    saved: str,
    arrays: Arrays,
    heard: Progress,
    chose: Chose,
) -> bytes:
    """Convert a SavedModel with ranges measured on `arrays` by input name."""
    converter = tf.lite.TFLiteConverter.from_saved_model(saved)
    configure(tf, converter, quantization, io)
    if quantization.scheme == "int8":
        between_calibration_and_quantization(converter, quantization, model, arrays, chose)
    batch = model.inputs[0].shape[0] or 1
    converter.representative_dataset = lambda: _representatives(arrays, batch, heard)
    data = bytes(converter.convert())
    return with_more_channels(without_lone_relus(data)) if quantization.scheme == "int8" else data


def _arrays(model: KerasModel, calibration: NDArray[Any] | Sequence[NDArray[Any]] | None) -> dict[str, NDArray[Any]]:
    """Return calibration samples by input name, in the types that the model takes."""
    inputs = zip(model.input_names, model.inputs, as_arrays(calibration), strict=True)
    return {name: array.astype(tensor.dtype.as_numpy_dtype, copy=False) for name, tensor, array in inputs}


def _heard(progress: Progress, silence: Silence, done: int, total: int) -> None:
    with silence.lifted():
        progress(done, total)


@contextmanager
def _never_loaded() -> Iterator[None]:
    """Skip the converter's two loads of a SavedModel, half of its time: it needs only the names in it, read here."""
    from tensorflow.lite.python import lite
    from tensorflow.python.saved_model.loader_impl import parse_saved_model_with_debug_info

    def described(folder: str, *_: object) -> SimpleNamespace:
        _, debug_info = parse_saved_model_with_debug_info(folder)
        return SimpleNamespace(signatures={SIGNATURE: None}, graph_debug_info=debug_info)

    load = lite._load  # noqa: SLF001 - `tf.saved_model.load` as the converter calls it
    lite._load = described  # noqa: SLF001
    try:
        yield
    finally:
        lite._load = load  # noqa: SLF001


def _fuses(tf: ModuleType, saved: str) -> bool:
    """Return whether the converter fuses each loop of a SavedModel into an LSTM: remaining ones crash it."""
    return "WHILE" not in count_operators(_in_float(tf, saved))


def _in_float(tf: ModuleType, saved: str) -> bytes:
    """Return the float32 file of a SavedModel."""
    return bytes(tf.lite.TFLiteConverter.from_saved_model(saved).convert())


def _unrolled(
    model: KerasModel, folder: str, quantization: Quantization, shapes: Shapes | None, recurrent: Recurrent
) -> str:
    """Save the model to `folder` in a form without loops and return it; UnsupportedError if there is none."""
    if recurrent == "auto" and recurrent_layers(model):
        save_function(model, folder, shapes, "unrolled")
        if not has_loops(folder):
            return folder
    names = ", ".join(map(repr, paths_of(model, recurrent_layers(model)))) or "an operator of its own"
    hint = "export: {recurrent: unrolled} writes out each step" if recurrent == "fused" else None
    hint = hint or "take a scheme that computes in float32, or keep the loop outside of the model"
    raise UnsupportedError(
        f"TFLite's converter has no loops in {quantization.scheme}: {names}", where=model.name, hint=hint
    )


def _state(data: bytes) -> dict[str, str]:
    """Return what a file's metadata say about its state; nothing if it keeps none."""
    return {"state": f"kept between calls; before each new sample: {RESET}"} if keeps_state(data) else {}


def save_function(model: KerasModel, folder: str, shapes: Shapes | None = None, form: Form = "loop") -> None:
    """Save inference alone as a SavedModel: the bare variables and one signature, the batch fixed at 1.

    Recurrent layers are saved in `form`. PreconditionError if the model leaves other sizes free, and `shapes` does not
    choose them.
    """
    tf = import_tensorflow()
    if form == "unrolled":
        model = unrolled(model)
    specs = input_specs(tf, model, 1, shapes)
    require_fixed(specs, shapes_of(model))
    module = tf.Module()
    # A SavedModel must own all variables that its function reads, or saving fails.
    module.held = list(model.variables)
    with quiet():
        tf.saved_model.save(module, folder, {SIGNATURE: serving_function(tf, model, specs)})
    if form == "loop":
        keep_loops(folder)


def _missing(error: Exception) -> list[tuple[str, str]]:
    """Return the operators (kind, name) that TFLite lacks according to the converter; empty if it failed otherwise."""
    operators = []
    for entry in getattr(error, "errors", ()):
        kind = entry.operator.name.removeprefix("tf.")
        names = [call.name for call in entry.location.call]
        if kind and kind in str(error):
            operators.append((kind, names[0] if names else kind))
    return operators


def _representatives(arrays: Arrays, batch: int, heard: Progress) -> Iterator[Arrays]:
    """Yield batches by input name: the converter has its own order."""
    count = len(next(iter(arrays.values())))
    for picked in batches_of(count, batch):
        yield {name: samples[picked] for name, samples in arrays.items()}
        heard(picked[-1] + 1, count)


def with_metadata(data: bytes, metadata: Mapping[str, Any] | None) -> bytes:
    """Add a metadata buffer to the file; the rest is packed exactly as the converter packs it."""
    if not metadata:
        return data
    import numpy as np
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    text = json.dumps(dict(metadata), sort_keys=True, separators=(",", ":"))
    buffer.data = np.frombuffer(text.encode(), np.uint8)
    # At the end: all other buffers keep their numbers, by which tensors refer to them.
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def tflite_facts(
    data: bytes, scheme: Scheme, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> TFLiteFacts:
    """Return `inputs` and `outputs` as the runtime sees them, and how often each operator occurs."""
    return TFLiteFacts(
        scheme=scheme,
        inputs=inputs,
        outputs=outputs,
        operators=count_operators(data),
        weights=tflite_weights(data),
        keeps_state=keeps_state(data),
    )
