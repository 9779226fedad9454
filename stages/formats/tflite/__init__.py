"""Convert and quantize TFLite files, and know what fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.contracts.stage import StageContext, StageResult
from pipeline.records.artifacts import Kind
from pipeline.records.facts import QuantizedFacts
from pipeline.records.metrics import Metric
from pipeline.records.schemes import Quantization
from stages.formats.format import Arrays, Content, FileTensor, FormatSettings, LoadedModel
from stages.formats.tflite.settings import TFLiteSettings

if TYPE_CHECKING:
    from stages.formats.cut import Cut
    from stages.formats.probe import Probe, ProbeScheme
    from stages.formats.twin import Twin

MARK, MARK_PLACE = b"TFL3", slice(4, 8)  # the file identifier of its flatbuffer's schema
PACKAGES = ("tensorflow", "tf-keras", "ai-edge-litert", "ai-edge-quantizer", "flatbuffers", "numpy")


class TFLite:
    """Export TFLite, which LiteRT runs."""

    name: ClassVar[str] = "tflite"
    kind: ClassVar[Kind] = "tflite-model"
    settings: ClassVar[type[FormatSettings]] = TFLiteSettings
    packages: ClassVar[tuple[str, ...]] = PACKAGES
    runtime_packages: ClassVar[tuple[str, ...]] = ("ai-edge-litert", "numpy")
    metrics: ClassVar[tuple[Metric, ...]] = ()
    made_from: ClassVar[str | None] = None
    file_counts: ClassVar[tuple[int, ...]] = (1,)
    imports: ClassVar[tuple[str, ...]] = (  # the first sets what the others need
        "stages.keras.tensorflow:import_tensorflow",
        "tensorflow.lite.python.lite",
        "ai_edge_litert.interpreter",
        "stages.formats.tflite.convert",
    )

    opener: ClassVar[str] = "stages.formats.tflite.opener"

    def recognises(self, data: Content) -> bool:
        return bool(data[MARK_PLACE] == MARK)

    def beside(self, model: Path) -> tuple[Path, ...]:
        return ()

    def refuses(self, how: Quantization) -> str | None:
        if how.calibration == "entropy":
            return "ranges by entropy are ONNX Runtime's: take min_max, percentile, mse or auto"
        if how.qat is not None and how.calibration not in (None, "min_max"):
            return f"qat trains the ranges of activations: nothing is left for calibration: {how.calibration}"
        if how.activations == "unsigned":
            return "activations of TFLite's int8 are signed"
        if how.scheme == "int4_weight_only" and how.granularity == "per_block":
            return "LiteRT's DEQUANTIZE does not know blocks: take int4_dynamic, or granularity: per_channel"
        return None

    def convert(self, context: StageContext[Any], quantized: QuantizedFacts) -> StageResult:
        from stages.formats.tflite.export import exported

        return exported(context, quantized)

    def load(self, model: bytes | Path, threads: int = 1) -> LoadedModel:
        from stages.formats.session import content_of
        from stages.formats.tflite.session import load_tflite

        return load_tflite(content_of(model), threads)

    def tensors(self, model: bytes | Path, arrays: Arrays) -> Iterator[FileTensor]:
        from stages.formats.tflite.tensors import tflite_tensors

        return tflite_tensors(model, arrays)

    def reads(self, model: bytes | Path) -> list[frozenset[int]]:
        from stages.formats.tflite.tensors import tflite_reads

        return tflite_reads(model)

    def input_ends(self, data: bytes) -> dict[str, tuple[float, float]]:
        from stages.formats.tflite.tensors import input_ends

        return input_ends(data)

    def small_constants(self, data: bytes) -> Arrays:
        from stages.formats.tflite.tensors import tflite_constants

        return dict(tflite_constants(data))

    def layers_of(self, name: str) -> tuple[str, ...]:
        """Return conv and conv_relu for `model/conv_relu/Relu;model/conv/Conv2D1`: the layer with weights is last."""
        parts = [text.split("/") for text in name.split(";")]
        layers = [part[1] for part in reversed(parts) if len(part) > 2 or (len(part) == 2 and part[1])]
        return tuple(dict.fromkeys(layers))

    def cuts(self, model: bytes, name: str) -> Iterator[Cut]:
        from stages.formats.tflite.cuts import cuts

        return cuts(model, name)

    def twins(self, model: bytes, name: str) -> Iterator[Twin]:
        from stages.formats.tflite.twins import twins

        return twins(model, name)

    def probe_model(self, probe: Probe, scheme: ProbeScheme) -> bytes:
        from stages.formats.tflite.probe_model import tflite_model

        return tflite_model(probe, scheme)
