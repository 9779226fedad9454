"""Export a quantized model as an ONNX file: the parent's side, and the child's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.contracts.stage import StageResult
from pipeline.errors import DeviceError, PostconditionError, PreconditionError, SecateurError
from pipeline.records.facts import QuantizedFacts
from pipeline.records.schemes import Quantization
from stages.formats.calibration.choice import Chose, RangeChoice, unchosen
from stages.formats.conversion import Context, Job, compared, exported_apart, job_of, made_here
from stages.formats.format import LoadedModel
from stages.formats.onnx.external_data import DATA_FILE
from stages.formats.onnx.facts import ONNXFacts
from stages.formats.onnx.overrides import RANGE
from stages.formats.onnx.settings import ONNXSettings
from stages.formats.rounding import rounded

FILE = "model.onnx"
CONVERTER = "tf2onnx"


def exported(context: Context, quantized: QuantizedFacts) -> StageResult:
    """Return the artifact: a file, and a second one for the data of large tensors if one does not hold the model."""
    if quantized.io != "float32":
        context.events.warned("ONNX files keep float32 inputs and outputs: quantize.io is for TFLite")
    files = {FILE: "application/vnd.onnx", DATA_FILE: "application/octet-stream"}
    made = exported_apart(context, quantized, f"{__name__}:convert_here", ONNXFacts, files)
    facts = made.outputs[0].facts
    assert isinstance(facts, ONNXFacts)
    _check_transposes(context, facts)
    return StageResult(made.outputs, {**made.metrics, "transposes": float(facts.transposes)})


def _check_transposes(context: Context, facts: ONNXFacts) -> None:
    """Check the number of transposes only if the user sets a limit: they cost time, but make no file wrong."""
    allowed = context.config.of(ONNXSettings).max_transposes
    if allowed is not None and facts.transposes > allowed:
        what = f"{facts.transposes} Transposes are left in the graph, {allowed} are allowed"
        hint = "permutations in the model itself stay; export.max_transposes sets the bound"
        raise PostconditionError(what, where=context.axis, hint=hint)


def convert_here(context: Context) -> dict[str, Any]:
    """Write the files into `work_dir` in the child; returns their facts, and how far the outputs are from Keras'."""
    from stages.formats.onnx.convert import onnx_facts
    from stages.formats.onnx.transposes import transposes_in_words
    from stages.keras.tensorflow import tensorflow_action

    with tensorflow_action(context.seed, context.threads):
        job = job_of(context, CONVERTER)
        _require_exportable(job)
        choices: list[RangeChoice] = []
        data, loaded, difference = _converted_and_run(context, job, job.quantized.quantization, choices.append)
        if job.quantized.scheme == "float16":
            _tell_range(context)
    (context.work_dir / FILE).write_bytes(data)
    facts = onnx_facts(data, job.quantized.scheme, loaded.inputs, loaded.outputs)
    if context.config.of(ONNXSettings).max_transposes is None:
        words = transposes_in_words(data, facts)
        if words:
            context.events.warned(words)
    return made_here(facts.model_copy(update={"ranges": choices[-1]}) if choices else facts, difference)


def _converted_and_run(
    context: Context, job: Job, quantization: Quantization, chose: Chose = unchosen
) -> tuple[bytes, LoadedModel, float]:
    """Return the graph, loaded in its runtime, and its difference from Keras'. Large data is in `work_dir` afterwards.

    If ONNX Runtime refuses per-channel scales, each weight tensor gets one scale, and a note says so.
    """
    from stages.formats.onnx.convert import convert_onnx
    from stages.formats.onnx.session import load_onnx
    from stages.formats.onnx.tensors import onnx_constants, onnx_graph

    settings, beside = context.config.of(ONNXSettings), context.work_dir / DATA_FILE
    chosen = rounded(context, job, quantization, RANGE)
    try:
        data = convert_onnx(
            job.model if chosen is None else chosen.model,
            quantization if chosen is None else chosen.how,
            settings.opset,
            job.calibration,
            job.progress,
            job.metadata,
            settings.layout,
            1 if settings.batch == 1 else None,
            context.config.shapes,
            beside,
            context.events.warned,
            chose,
        )
        loaded, difference = compared(job, lambda: load_onnx(_loadable(data, beside)))
        _tell_reading(context, job, data, loaded)
    except SecateurError as error:
        # `compared` wraps what the runtime said; `_tell_reading`, and the trials of `calibration: auto`, raise it as it
        # is.
        cause = error if isinstance(error, DeviceError) else error.__cause__
        if (
            isinstance(cause, DeviceError)
            and quantization.scheme == "int8"
            and quantization.granularity != "per_tensor"
        ):
            note = (
                f"weights have one scale each instead of one a channel, which ONNX Runtime refuses here ({cause.what})"
            )
            context.events.warned(note)
            per_tensor = quantization.model_copy(update={"granularity": "per_tensor"})
            return _converted_and_run(context, job, per_tensor, chose)
        raise
    if chosen is not None and not beside.exists():  # else some constants are in the other file
        chosen.tell(context, (values for _, values in onnx_constants(onnx_graph(data))))
    return data, loaded, difference


def _loadable(data: bytes, beside: Path) -> bytes | Path:
    """Return what a runtime loads: the bytes, or a file in its folder if it has external data."""
    if not beside.exists():
        return data
    path = beside.with_name(FILE)
    path.write_bytes(data)
    return path


def _tell_reading(context: Context, job: Job, data: bytes, loaded: LoadedModel) -> None:
    """Evaluate small float32 files a second time with the standard's own evaluator."""
    from stages.formats.onnx.reference import MOST_MACS, reading_of_the_standard

    # The evaluator gets bytes, and these lack the weights of a model in two files.
    whole = not (context.work_dir / DATA_FILE).exists()
    if job.quantized.scheme == "float32" and whole and job.quantized.macs < MOST_MACS:
        warning = reading_of_the_standard(data, job.by_name, loaded.run(job.by_name))
        if warning:
            context.events.warned(warning)


def _tell_range(context: Context) -> None:
    """Warn about each layer of which float16 keeps little, or that stays in float32."""
    from stages.formats.half import doubts_about_half
    from stages.keras.stored import shared_model

    for doubt in doubts_about_half(shared_model(context, "model"), stays_in_float32=True):
        context.events.warned(doubt)


def _require_exportable(job: Job) -> None:
    """Raise PreconditionError for a pair that is known to come out wrong.

    tf2onnx puts tfmot's fake quantization on another grid: a step off, which only 8 bits permit.
    """
    from stages.keras.wrappers import QUANTIZATION, wrappers_in

    if job.quantized.scheme != "int8" and QUANTIZATION in wrappers_in(job.model).values():
        what = f"the model was trained for int8 by tfmot, whose rounding ONNX can't keep in {job.quantized.scheme}"
        raise PreconditionError(what, where=job.axis, hint="quantize it to int8, or export it to tflite")
