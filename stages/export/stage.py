"""The export stage: one quantized model in one format, a file that its runtime has loaded and run.

The file carries the digest of the Keras model it was made of, the scheme and the converter's name, and nothing that
would change from one release of this project to the next.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator, Mapping
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from pipeline.contracts.stage import Input, StageConfig, StageContext, StageResult
from pipeline.errors import DeviceError, NativeEndError, PostconditionError, PreconditionError, UnsupportedError
from pipeline.records.artifacts import (
    KIND_OF,
    Artifact,
    FileRef,
    Format,
    Kind,
    ONNXFacts,
    QuantizedFacts,
    TensorSpec,
    TFLiteFacts,
)
from pipeline.records.metrics import counted
from pipeline.records.schemes import Scheme
from stages.export.config import ExportConfig
from stages.export.doubts import doubts_about
from stages.formats.external_data import DATA_FILE
from stages.formats.metadata import metadata_of
from stages.formats.packages import MAKING, of_axis
from stages.formats.pairs import refusal
from stages.keras.normal_form import MODEL_FILE

if TYPE_CHECKING:
    from stages.formats.session import LoadedModel

FILE_NAMES: Mapping[Format, str] = {"tflite": "model.tflite", "onnx": "model.onnx"}
MEDIA_TYPES: Mapping[Format, str] = {"tflite": "application/vnd.tflite", "onnx": "application/vnd.onnx"}
DATA_TYPE = "application/octet-stream"
FACTS: Mapping[Format, type[TFLiteFacts | ONNXFacts]] = {"tflite": TFLiteFacts, "onnx": ONNXFacts}
CONVERTERS: Mapping[Format, str] = {"tflite": "tensorflow.lite", "onnx": "tf2onnx"}
# What conversions import; the first line of each sets what has to stand before the others.
IMPORTS: Mapping[Format, tuple[str, ...]] = {
    "tflite": (
        *("stages.keras.tensorflow:import_tensorflow", "tensorflow.lite.python.lite", "ai_edge_litert.interpreter"),
        "stages.formats.tflite.convert",
    ),
    "onnx": ("stages.keras.tensorflow:import_keras", "onnxruntime", "tf2onnx", "stages.formats.onnx.convert"),
}
# A broken conversion is off by orders of magnitude. How near it is on real data is what verify measures.
ALLOWED_DIFFERENCE: Mapping[Scheme, float] = {"float32": 1e-3, "float16": 5e-2}


class ExportStage:
    """Converts; in all schemes but float32 and float16 the converter, or what follows it, also quantizes."""

    name: ClassVar[str] = "export"
    version: ClassVar[int] = 5
    config: ClassVar[type[StageConfig]] = ExportConfig
    inputs: ClassVar[Mapping[str, Input]] = {"model": Input(("quantized-model",))}
    outputs: ClassVar[tuple[Kind, ...]] = ("tflite-model", "onnx-model", "c-source", "vela-model")
    axis: ClassVar[str | None] = "formats"
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]] = (
        *("size_bytes", "params", "macs", "macs_unknown", "export_difference", "transposes"),
        *("arena_bytes", "micro_difference", "estimated_cycles", "estimated_sram_bytes", "estimated_npu_share"),
        "estimated_cpu_operators",
    )
    packages: ClassVar[tuple[str, ...]] = of_axis(MAKING, None)

    def packages_for(self, axis: str | None) -> tuple[str, ...]:
        return of_axis(MAKING, axis)

    def splits(self, config: ExportConfig) -> tuple[str, ...]:
        return ()

    def unsupported(self, axis: str) -> str | None:
        target_format = axis.partition("/")[0]
        return None if target_format in get_args(Format) else f"there is no format {target_format!r}"

    def refuses(self, target_format: Format, quantized_by: Any) -> str | None:
        """Why a format can't have what quantize's settings ask for, or None; asked before anything runs."""
        measured = "onnx" if target_format == "onnx" else "tflite"  # the others hold a TFLite file
        if quantized_by.ladder and quantized_by.ladder_format != measured:
            return f"the ladder measures {quantized_by.ladder_format} (quantize.ladder_format)"
        reasons = (refusal(target_format, how) for how in quantized_by.possible)
        return next((reason for reason in reasons if reason), None)

    def prepare(self, config: ExportConfig, threads: int) -> None:
        """Start the child that will convert: it imports the converters meanwhile."""
        from stages.formats.apart.process import warm

        warm(threads, tuple(module for name in config.formats for module in IMPORTS.get(name, IMPORTS["tflite"])))

    def requires(self, config: ExportConfig, inputs: Mapping[str, Artifact]) -> None:
        if len(config.formats) != 1:
            raise PreconditionError(f"one action exports one format, not {len(config.formats)}")
        facts = _quantized_facts(inputs["model"])
        if facts.quantization.calibrated and facts.calibration is None:
            what = f"the {facts.scheme} model comes without its calibration set"
            raise PreconditionError(what, hint="quantize it anew")
        reason = refusal(config.formats[0], facts.quantization)
        if reason:
            raise PreconditionError(reason, where=f"{config.formats[0]}/{facts.scheme}")

    def run(self, context: StageContext[ExportConfig]) -> StageResult:
        target_format, quantized = context.config.formats[0], _quantized_facts(context.inputs["model"])
        if target_format == "c":
            from stages.formats.c.convert import source_of

            return source_of(context, quantized)
        if target_format == "vela":
            from stages.formats.vela.convert import compiled_of

            return compiled_of(context, quantized)
        from stages.formats.apart.context import run_apart
        from stages.formats.tflite.native_ends import refuse_layers

        refuse_layers(context.read("model", MODEL_FILE), target_format, quantized.quantization, context.axis)
        if target_format == "onnx" and quantized.io != "float32":
            context.events.warned("ONNX files keep float32 inputs and outputs: quantize.io is for TFLite")
        with tempfile.TemporaryDirectory(prefix="tmp-", dir=context.work_dir) as name:
            folder = Path(name)
            try:
                made = run_apart(context, f"{__name__}:convert_here", folder, f"making {context.axis}")
            except NativeEndError as error:
                from stages.formats.tflite.ending_operator import with_operator

                file, stored = folder / FILE_NAMES["tflite"], context.read("model", MODEL_FILE)
                told = with_operator(error, file, stored, context.events)
                if told is error:  # no error is its own cause: whoever walks the causes would never end
                    raise
                raise told from error
            facts, difference = FACTS[target_format].model_validate_json(made["facts"]), made["difference"]
            for doubt in doubts_about(facts):
                context.events.warned(doubt)
            artifact = Artifact(files=tuple(_written(context, folder)), facts=facts)
        return StageResult(
            outputs=(artifact,),
            metrics={
                "size_bytes": float(artifact.size_bytes),
                **counted(quantized),
                "export_difference": difference,
                **({"transposes": float(facts.transposes)} if isinstance(facts, ONNXFacts) else {}),
            },
        )

    def ensures(self, context: StageContext[ExportConfig], result: StageResult) -> None:
        """The runtime computed what Keras does; `run` has seen it load the file and give finite numbers."""
        scheme, difference = _quantized_facts(context.inputs["model"]).scheme, result.metrics["export_difference"]
        allowed = ALLOWED_DIFFERENCE.get(scheme)
        if allowed is not None and not difference <= allowed:
            raise PostconditionError(
                f"the file's outputs differ from Keras' by {difference:.1e} (relative), {allowed:.0e} is allowed",
                where=context.axis,
                hint="the converter changed what the model computes: please report it with the model",
            )
        facts = result.outputs[0].facts
        if isinstance(facts, ONNXFacts):
            _check_transposes(context, facts)


def _tell_transposes(context: StageContext[ExportConfig], data: bytes, facts: ONNXFacts) -> None:
    from stages.formats.onnx.transposes import transposes_in_words

    words = transposes_in_words(data, facts)
    if words:
        context.events.warned(words)


def _check_transposes(context: StageContext[ExportConfig], facts: ONNXFacts) -> None:
    """They cost time, and make no file wrong: only who sets a bound gets one."""
    allowed = context.config.max_transposes
    if allowed is not None and facts.transposes > allowed:
        what = f"{facts.transposes} Transposes are left in the graph, {allowed} are allowed"
        hint = "permutations in the model itself stay; export.max_transposes sets the bound"
        raise PostconditionError(what, where=context.axis, hint=hint)


def _tell_range(context: StageContext[ExportConfig], data: bytes, difference: float) -> None:
    """UnsupportedError where weights do not fit float16; a warning where it keeps little of them."""
    from stages.formats.tflite.half import doubts_about_half, require_in_half
    from stages.keras.stored import shared_model

    model, target_format = shared_model(context, "model"), context.config.formats[0]
    if target_format == "tflite":
        require_in_half(model, data, difference, ALLOWED_DIFFERENCE["float16"])
    for doubt in doubts_about_half(model, target_format):
        context.events.warned(doubt)


def convert_here(context: StageContext[ExportConfig]) -> dict[str, Any]:
    """In the child: the files into `work_dir`; their facts, and how far the outputs are from Keras'."""
    from stages.keras.tensorflow import tensorflow_action

    target_format, quantized = context.config.formats[0], _quantized_facts(context.inputs["model"])
    beside = context.work_dir / DATA_FILE
    with tensorflow_action(context.seed, context.threads):
        data, difference, interface = _converted_and_run(context, quantized, beside)
        if quantized.scheme == "float16":
            _tell_range(context, data, difference)
    (context.work_dir / FILE_NAMES[target_format]).write_bytes(data)
    facts = _facts(target_format, data, quantized.scheme, interface)
    if isinstance(facts, ONNXFacts) and context.config.max_transposes is None:
        _tell_transposes(context, data, facts)
    return {"facts": facts.model_dump_json(), "difference": difference}


def _converted_and_run(
    context: StageContext[ExportConfig], quantized: QuantizedFacts, beside: Path
) -> tuple[bytes, float, tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]]:
    """The file, how far its outputs are from Keras' in its runtime, and the inputs and outputs that it has there.

    What one file does not hold is in `beside` afterwards.
    """
    from stages.formats.check import runtime_difference
    from stages.formats.session import load_exported
    from stages.formats.tflite.native_ends import refuse_operators
    from stages.keras.normal_form import random_inputs
    from stages.keras.precision import shared_in_float32
    from stages.samples.calibration import calibration_files, decode_samples

    model = shared_in_float32(context, "model")
    _require_exportable(model, context.config.formats[0], quantized.scheme, context.axis)
    _check_labels(context.config, model)
    _check_shapes(context.config, model)
    calibration = None
    if quantized.calibration is not None:
        files = calibration_files(len(model.inputs))
        calibration = [decode_samples(context.read("model", name)) for name in files]
    data = _converted(context, model, quantized, calibration, beside)
    samples = random_inputs(model, samples=1, seed=0, shapes=context.config.shapes)
    if calibration is not None:
        samples = [c[:1].astype(s.dtype) for c, s in zip(calibration, samples, strict=True)]
    if context.config.formats[0] == "tflite":
        refuse_operators(model, data, context.axis)
        (context.work_dir / FILE_NAMES["tflite"]).write_bytes(data)  # for whoever wants to know what ended LiteRT
    loaded = None
    try:
        loaded = load_exported(KIND_OF[context.config.formats[0]], _loadable(data, beside))
        allowed = ALLOWED_DIFFERENCE.get(quantized.scheme, inf)
        difference = runtime_difference(model, loaded, samples, allowed)
        _tell_reading(context, quantized, data, loaded, dict(zip(model.input_names, samples, strict=True)))
    except DeviceError as error:
        how = quantized.quantization
        if context.config.formats[0] == "onnx" and how.scheme == "int8" and how.granularity != "per_tensor":
            said = (
                f"weights have one scale each instead of one a channel, which ONNX Runtime refuses here ({error.what})"
            )
            context.events.warned(said)
            how = how.model_copy(update={"granularity": "per_tensor"})
            return _converted_and_run(context, quantized.model_copy(update={"quantization": how}), beside)
        if loaded is None:  # no file that its runtime refuses is of use: the pair does not exist for this model
            raise UnsupportedError(error.what, where=context.axis, hint=error.hint) from error
        raise PostconditionError(error.what, where=context.axis, hint=error.hint) from error
    return data, difference, (loaded.inputs, loaded.outputs)


def _tell_reading(
    context: StageContext[ExportConfig], quantized: QuantizedFacts, data: bytes, loaded: LoadedModel, samples: Any
) -> None:
    """Small ONNX files in float32 are read a second time, by the standard's own evaluator."""
    from stages.formats.onnx.reference import MOST_MACS, reading_of_the_standard

    whole = not (context.work_dir / DATA_FILE).exists()
    if context.config.formats[0] == "onnx" and quantized.scheme == "float32" and whole and quantized.macs < MOST_MACS:
        warning = reading_of_the_standard(data, samples, loaded.run(samples))
        if warning:
            context.events.warned(warning)


def _loadable(data: bytes, beside: Path) -> bytes | Path:
    """What a runtime loads: the bytes, or where data stands beside them a file in its folder."""
    if not beside.exists():
        return data
    path = beside.with_name(FILE_NAMES["onnx"])
    path.write_bytes(data)
    return path


def _written(context: StageContext[ExportConfig], folder: Path) -> Iterator[FileRef]:
    """The files of the artifact; what stands beside is mapped, so that it is never all in memory."""
    target_format, beside = context.config.formats[0], folder / DATA_FILE
    data = (folder / FILE_NAMES[target_format]).read_bytes()
    yield context.write(FILE_NAMES[target_format], data, MEDIA_TYPES[target_format])
    if beside.exists():
        with (
            beside.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as tensors,
        ):
            yield context.write(DATA_FILE, tensors, DATA_TYPE)


def _check_labels(config: ExportConfig, model: Any) -> None:
    sizes = {tensor.shape[-1] for tensor in model.outputs}
    if config.labels is not None and len(config.labels) not in sizes:
        what = f"there are {len(config.labels)} labels, and no output of the model has so many numbers"
        raise PreconditionError(what, where="export.labels", hint=f"outputs have {', '.join(map(str, sizes))}")


def _check_shapes(config: ExportConfig, model: Any) -> None:
    for name, sizes in (config.shapes or {}).items():
        known = dict(zip(model.input_names, model.inputs, strict=True))
        if name not in known:
            hint = f"it has {', '.join(known)}"
            raise PreconditionError(f"the model has no input {name!r}", where="export.shapes", hint=hint)
        own = tuple(known[name].shape[1:])
        if len(own) != len(sizes) or any(size not in (None, given) for size, given in zip(own, sizes, strict=True)):
            what = f"input {name!r} takes {own}, not {tuple(sizes)}"
            raise PreconditionError(what, where="export.shapes", hint="only sizes that are free can be chosen")


def _require_exportable(model: Any, target_format: Format, scheme: Scheme, axis: str | None) -> None:
    """PreconditionError for a pair that is known to come out wrong.

    tf2onnx puts tfmot's fake quantization on another grid: a step off, which only 8 bits permit.
    """
    from stages.keras.wrappers import QUANTIZATION, wrappers_in

    if target_format == "onnx" and scheme != "int8" and QUANTIZATION in wrappers_in(model).values():
        what = f"the model was trained for int8 by tfmot, whose rounding ONNX can't keep in {scheme}"
        raise PreconditionError(what, where=axis, hint="quantize it to int8, or export it to tflite")


def _converted(
    context: StageContext[ExportConfig], model: Any, quantized: QuantizedFacts, calibration: Any, beside: Path
) -> bytes:
    from stages.formats.onnx.convert import convert_onnx
    from stages.formats.tflite.convert import convert_tflite

    def progress(done: int, total: int) -> None:
        context.events.advanced(done, total, "calibration samples", f"{done}/{total}")

    config = context.config
    metadata = metadata_of(config, quantized.model_digest, quantized.scheme, CONVERTERS[config.formats[0]])
    if config.formats[0] == "tflite":
        from stages.formats.tflite.recurrent import first_form
        from stages.formats.tflite.saved_function import shared_function

        how, recurrent, digest = (
            quantized.quantization,
            config.recurrent,
            context.inputs["model"].file(MODEL_FILE).digest,
        )
        saved = shared_function(model, digest, config.shapes, first_form(model, how, recurrent))
        return convert_tflite(
            model, how, quantized.io, calibration, progress, metadata, config.shapes, saved, recurrent
        )
    how, batch = quantized.quantization, 1 if config.batch == 1 else None
    return convert_onnx(
        model,
        how,
        config.opset,
        calibration,
        progress,
        metadata,
        config.layout,
        batch,
        config.shapes,
        beside,
        context.events.warned,
    )


def _facts(target_format: Format, data: bytes, scheme: Scheme, interface: Any) -> TFLiteFacts | ONNXFacts:
    from stages.formats.onnx.convert import onnx_facts
    from stages.formats.tflite.convert import tflite_facts

    inputs, outputs = interface
    return (
        tflite_facts(data, scheme, inputs, outputs)
        if target_format == "tflite"
        else onnx_facts(data, scheme, inputs, outputs)
    )


def _quantized_facts(artifact: Artifact) -> QuantizedFacts:
    if not isinstance(artifact.facts, QuantizedFacts):
        raise PreconditionError(f"a quantized-model is wanted, this is a {artifact.kind}")
    return artifact.facts
