"""The quantize stage: which scheme a model is to be exported in, and the data that its ranges are measured on.

Post-training quantization itself is the converters' work, so it happens in export: the numbers that come out differ
by format. What is decided here is everything they share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pipeline.artifacts import Artifact, CalibrationFacts, Kind, QuantizedFacts
from pipeline.errors import PreconditionError
from pipeline.stage import Input, StageConfig, StageContext, StageResult
from stages.data_checks import keras_facts_of, require_inputs
from stages.keras_format import MODEL_FILE
from stages.quantize.calibration import doubts_about
from stages.quantize.config import QuantizeConfig
from stages.samples import CALIBRATION_MEDIA_TYPE, by_input, calibration_files, encode_samples


class QuantizeStage:
    """A Keras model with its scheme; for int8 also the calibration samples, preprocessed."""

    name: ClassVar[str] = "quantize"
    version: ClassVar[int] = 1
    config: ClassVar[type[StageConfig]] = QuantizeConfig
    inputs: ClassVar[Mapping[str, Input]] = {"model": Input(("keras-model",))}
    outputs: ClassVar[tuple[Kind, ...]] = ("quantized-model", "calibration-set")
    axis: ClassVar[str | None] = "schemes"
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "numpy")  # TensorFlow decodes images

    def splits(self, config: QuantizeConfig) -> tuple[str, ...]:
        return ("calibration",) if "int8" in config.schemes else ()

    def unsupported(self, axis: str) -> str | None:
        return None

    def requires(self, config: QuantizeConfig, inputs: Mapping[str, Artifact]) -> None:
        if len(config.schemes) != 1:
            raise PreconditionError(f"one action quantizes by one scheme, not by {len(config.schemes)}")
        keras_facts_of(inputs["model"])

    def run(self, context: StageContext[QuantizeConfig]) -> StageResult:
        scheme, model = context.config.schemes[0], context.inputs["model"]
        calibration = _calibration_set(context) if scheme == "int8" else None
        facts = keras_facts_of(model)
        quantized = Artifact(
            files=(model.file(MODEL_FILE), *(calibration.files if calibration else ())),
            facts=QuantizedFacts(
                scheme=scheme,
                io=context.config.io if scheme == "int8" else "float32",
                calibration=calibration.digest if calibration else None,
                params=facts.params,
                macs=facts.macs,
                model_digest=model.digest,
            ),
        )
        return StageResult(outputs=(quantized, calibration) if calibration else (quantized,))

    def ensures(self, context: StageContext[QuantizeConfig], result: StageResult) -> None:
        """Nothing was computed: `requires` and `run` have checked all that went in."""


def _calibration_set(context: StageContext[QuantizeConfig]) -> Artifact:
    """The calibration split as an artifact; PreconditionError where there is none, or it can't enter the model."""
    import numpy as np

    split = context.data("calibration")
    if len(split) == 0:
        raise PreconditionError(
            "int8 needs calibration samples, and the split holds none",
            where="data.calibration",
            hint="set data.calibration.take to 100 or more",
        )
    facts = keras_facts_of(context.inputs["model"])
    require_inputs(split, facts)
    arrays = by_input(split.inputs(), [spec.name for spec in facts.inputs])
    if not all(np.all(np.isfinite(samples)) for samples in arrays):
        raise PreconditionError("the calibration data holds NaN or infinity", where="data.calibration")
    for doubt in dict.fromkeys(doubt for samples in arrays for doubt in doubts_about(samples)):
        context.events.warned(doubt)
    context.events.advanced(len(split), len(split), "calibration samples")
    files = tuple(
        context.write(name, encode_samples(samples), CALIBRATION_MEDIA_TYPE)
        for name, samples in zip(calibration_files(len(arrays)), arrays, strict=True)
    )
    return Artifact(files=files, facts=CalibrationFacts(samples=len(split)))
