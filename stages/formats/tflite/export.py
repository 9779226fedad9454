"""Export a quantized model as a TFLite file: the parent's side, and the child's."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from pipeline.contracts.stage import StageResult
from pipeline.errors import NativeEndError
from pipeline.records.facts import QuantizedFacts
from stages.formats.calibration.choice import RangeChoice
from stages.formats.conversion import ALLOWED_DIFFERENCE, Context, compared, exported_apart, job_of, made_here
from stages.formats.tflite.facts import TFLiteFacts
from stages.formats.tflite.ranges import LEVELS
from stages.formats.tflite.settings import TFLiteSettings
from stages.keras.normal_form import MODEL_FILE

FILE = "model.tflite"
CONVERTER = "tensorflow.lite"


def exported(context: Context, quantized: QuantizedFacts) -> StageResult:
    """Return the artifact. If the child crashes, the error names LiteRT's last operator, if that is found."""
    from stages.formats.tflite.native_ends import refuse_layers
    from stages.formats.tflite.recurrent import RESET

    def with_its_operator(error: NativeEndError, folder: Path) -> Exception:
        from stages.formats.tflite.ending_operator import with_operator

        return with_operator(error, folder / FILE, context.read("model", MODEL_FILE), context.events)

    # In the parent, before a child is asked: this one is known to crash, which costs the child and its imports.
    refuse_layers(context.read("model", MODEL_FILE), quantized.quantization, context.axis)
    files = {FILE: "application/vnd.tflite"}
    made = exported_apart(context, quantized, f"{__name__}:convert_here", TFLiteFacts, files, with_its_operator)
    facts = made.outputs[0].facts
    if isinstance(facts, TFLiteFacts) and facts.keeps_state:
        context.events.warned(
            f"the file keeps its LSTMs' state from one call to the next; clear it before each sample ({RESET}), "
            "or export: {recurrent: unrolled}"
        )
    return made


def convert_here(context: Context) -> dict[str, Any]:
    """Write the file into `work_dir` in the child; returns its facts, and how far its outputs are from Keras'."""
    from stages.formats.half import doubts_about_half, require_in_half
    from stages.formats.rounding import rounded
    from stages.formats.tflite.convert import convert_tflite, tflite_facts
    from stages.formats.tflite.four_bits import doubts_about_4_bits
    from stages.formats.tflite.native_ends import refuse_operators
    from stages.formats.tflite.recurrent import first_form
    from stages.formats.tflite.saved_function import SavedFunction
    from stages.formats.tflite.session import load_tflite
    from stages.formats.tflite.tensors import tflite_constants
    from stages.keras.stored import shared_model
    from stages.keras.tensorflow import tensorflow_action

    with tensorflow_action(context.seed, context.threads):
        job, shapes = job_of(context, CONVERTER), context.config.shapes
        quantization, recurrent = job.quantized.quantization, context.config.of(TFLiteSettings).recurrent
        chosen, choices = rounded(context, job, quantization, LEVELS), list[RangeChoice]()
        if chosen is None:
            model, digest = job.model, context.inputs["model"].file(MODEL_FILE).digest
            form = first_form(model, quantization, recurrent)
            saved = context.shared.of(SavedFunction).of(model, digest, shapes, form)
        else:  # a model of this scheme alone
            model, quantization, saved = chosen.model, chosen.how, None
        io, calibration = job.quantized.io, job.calibration
        data = convert_tflite(
            model,
            quantization,
            io,
            calibration,
            job.progress,
            job.metadata,
            shapes,
            saved,
            recurrent,
            choices.append,
        )
        if chosen is not None:
            chosen.tell(context, (values for _, values in tflite_constants(data)))
        # Before LiteRT sees the file: `allocate_tensors` would end the process there.
        refuse_operators(job.model, data, context.axis)
        (context.work_dir / FILE).write_bytes(data)  # before LiteRT reads it, to diagnose a crash
        loaded, difference = compared(job, partial(load_tflite, data))
        if quantization.scheme == "float16":
            model = shared_model(context, "model")
            require_in_half(model, data, difference, ALLOWED_DIFFERENCE["float16"])
            for doubt in doubts_about_half(model):
                context.events.warned(doubt)
        for doubt in doubts_about_4_bits(data, quantization):
            context.events.warned(doubt)
    facts = tflite_facts(data, quantization.scheme, loaded.inputs, loaded.outputs)
    return made_here(facts.model_copy(update={"ranges": choices[-1]}) if choices else facts, difference)
