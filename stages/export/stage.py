"""The export stage: one quantized model in one format, a file that its runtime has loaded and run.

The file carries the digest of the Keras model it was made of, the scheme and the converter's name, and nothing that
would change from one release of this project to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, get_args

from pipeline.artifacts import Artifact, Format, Kind, QuantizedFacts
from pipeline.errors import DeviceError, PostconditionError, PreconditionError
from pipeline.schemes import Scheme
from pipeline.stage import Input, StageConfig, StageContext, StageResult
from stages.export.config import ExportConfig
from stages.export.pairs import refusal

FILE_NAMES: Mapping[Format, str] = {"tflite": "model.tflite", "onnx": "model.onnx"}
MEDIA_TYPES: Mapping[Format, str] = {"tflite": "application/vnd.tflite", "onnx": "application/vnd.onnx"}
KINDS: Mapping[Format, Kind] = {"tflite": "tflite-model", "onnx": "onnx-model"}
CONVERTERS: Mapping[Format, str] = {"tflite": "tensorflow.lite", "onnx": "tf2onnx"}
# A broken conversion is off by orders of magnitude. How near it is on real data is what verify measures.
ALLOWED_DIFFERENCE: Mapping[Scheme, float] = {"float32": 1e-3, "float16": 5e-2}


class ExportStage:
    """Converts; in all schemes but float32 and float16 the converter, or what follows it, also quantizes."""

    name: ClassVar[str] = "export"
    version: ClassVar[int] = 2
    config: ClassVar[type[StageConfig]] = ExportConfig
    inputs: ClassVar[Mapping[str, Input]] = {"model": Input(("quantized-model",))}
    outputs: ClassVar[tuple[Kind, ...]] = ("tflite-model", "onnx-model")
    axis: ClassVar[str | None] = "formats"
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]] = ("size_bytes", "params", "macs", "export_difference")
    packages: ClassVar[tuple[str, ...]] = (
        *("tensorflow", "tf-keras", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert", "ai-edge-quantizer"),
        *("flatbuffers", "protobuf", "numpy"),
    )

    def splits(self, config: ExportConfig) -> tuple[str, ...]:
        return ()

    def unsupported(self, axis: str) -> str | None:
        target_format = axis.partition("/")[0]
        return None if target_format in get_args(Format) else f"there is no format {target_format!r}"

    def refuses(self, target_format: Format, quantized_by: Any) -> str | None:
        """Why a format can't have what quantize's settings ask for, or None; asked before anything runs."""
        climbed = quantized_by.ladder_format if quantized_by.ladder else target_format
        if climbed != target_format:
            return f"the ladder measures {climbed} (quantize.ladder_format)"
        reasons = (refusal(target_format, how) for how in quantized_by.possible)
        return next((reason for reason in reasons if reason), None)

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
        from stages.export.check import runtime_difference
        from stages.keras_format import random_inputs
        from stages.runtimes import load_exported
        from stages.samples import calibration_files, decode_samples
        from stages.stored_models import shared_model
        from stages.tf_runtime import tensorflow_action

        target_format = context.config.formats[0]
        quantized = _quantized_facts(context.inputs["model"])
        if target_format == "onnx" and quantized.io != "float32":
            context.events.warned("ONNX files keep float32 inputs and outputs: quantize.io is for TFLite")
        with tensorflow_action(context.seed, context.threads):
            model = shared_model(context, "model")
            _require_exportable(model, target_format, quantized.scheme, context.axis)
            calibration = None
            if quantized.calibration is not None:
                files = calibration_files(len(model.inputs))
                calibration = [decode_samples(context.read("model", name)) for name in files]
            data = _converted(context, model, quantized, calibration)
            samples = random_inputs(model, samples=1, seed=0)
            if calibration is not None:
                samples = [c[:1].astype(s.dtype) for c, s in zip(calibration, samples, strict=True)]
            try:
                loaded = load_exported(KINDS[target_format], data)
                difference = runtime_difference(model, loaded, samples)
            except DeviceError as error:
                raise PostconditionError(error.what, where=context.axis, hint=error.hint) from error
        file = context.write(FILE_NAMES[target_format], data, MEDIA_TYPES[target_format])
        return StageResult(
            outputs=(Artifact(files=(file,), facts=_facts(target_format, data, quantized.scheme, loaded)),),
            metrics={
                "size_bytes": float(len(data)),
                "params": float(quantized.params),
                "macs": float(quantized.macs),
                "export_difference": difference,
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


def _require_exportable(model: Any, target_format: Format, scheme: Scheme, axis: str | None) -> None:
    """PreconditionError for a pair that is known to come out wrong.

    tf2onnx puts tfmot's fake quantization on another grid: a step off, which only 8 bits permit.
    """
    from stages.wrappers import QUANTIZATION, wrappers_in

    if target_format == "onnx" and scheme != "int8" and QUANTIZATION in wrappers_in(model).values():
        what = f"the model was trained for int8 by tfmot, whose rounding ONNX can't keep in {scheme}"
        raise PreconditionError(what, where=axis, hint="quantize it to int8, or export it to tflite")


def _converted(context: StageContext[ExportConfig], model: Any, quantized: QuantizedFacts, calibration: Any) -> bytes:
    from stages.export.onnx_export import convert_onnx
    from stages.export.tflite import convert_tflite

    def progress(done: int, total: int) -> None:
        context.events.advanced(done, total, "calibration samples", f"{done}/{total}")

    target_format = context.config.formats[0]
    metadata = {
        "converter": CONVERTERS[target_format],
        "model": quantized.model_digest,
        "scheme": quantized.scheme,
    }
    if target_format == "tflite":
        return convert_tflite(model, quantized.quantization, quantized.io, calibration, progress, metadata)
    return convert_onnx(model, quantized.quantization, context.config.opset, calibration, progress, metadata)


def _facts(target_format: Format, data: bytes, scheme: Scheme, loaded: Any) -> Any:
    from stages.export.onnx_export import onnx_facts
    from stages.export.tflite import tflite_facts

    return (tflite_facts if target_format == "tflite" else onnx_facts)(data, scheme, loaded)


def _quantized_facts(artifact: Artifact) -> QuantizedFacts:
    if not isinstance(artifact.facts, QuantizedFacts):
        raise PreconditionError(f"a quantized-model is wanted, this is a {artifact.kind}")
    return artifact.facts
