"""Make C source for microcontrollers from TFLite files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pipeline.contracts.stage import StageContext, StageResult
from pipeline.records.artifacts import Kind
from pipeline.records.facts import QuantizedFacts
from pipeline.records.metrics import Metric
from pipeline.records.schemes import Quantization
from stages.formats.c.settings import CSettings
from stages.formats.format import Arrays, Content, FormatSettings
from stages.formats.tflite import TFLite

ARENA = Metric("arena_bytes", "bytes", lower_is_better=True, judged_as="arena", told="arena {}")


class CSource:
    """Write the TFLite file as C source for TensorFlow Lite for Microcontrollers."""

    name: ClassVar[str] = "c"
    kind: ClassVar[Kind] = "c-source"
    settings: ClassVar[type[FormatSettings]] = CSettings
    # TFLM's version is in the key because the arena in the header comes from a run in it.
    packages: ClassVar[tuple[str, ...]] = (*TFLite.packages, "tflite-micro")
    runtime_packages: ClassVar[tuple[str, ...]] = ("ai-edge-litert", "tflite-micro", "numpy")
    metrics: ClassVar[tuple[Metric, ...]] = (ARENA, Metric("micro_difference", "share", lower_is_better=True))
    made_from: ClassVar[str | None] = TFLite.name
    file_counts: ClassVar[tuple[int, ...]] = (2,)
    imports: ClassVar[tuple[str, ...]] = TFLite.imports
    holds: ClassVar[str] = TFLite.name
    simulator: ClassVar[str] = "TFLM"

    def recognises(self, data: Content) -> bool:
        return False  # text is recognized only in artifacts

    def beside(self, model: Path) -> tuple[Path, ...]:
        return ()

    def refuses(self, how: Quantization) -> str | None:
        from stages.formats.tflite.micro_limits import refused_in_micro

        reason = refused_in_micro(how)
        if reason:
            return f"TensorFlow Lite for Microcontrollers can't compute {how.scheme}: {reason}; take int8 or float32"
        return TFLite().refuses(how)

    def convert(self, context: StageContext[Any], quantized: QuantizedFacts) -> StageResult:
        from stages.formats.c.convert import source_of

        return source_of(context, quantized)

    def held(self, data: bytes) -> bytes:
        from stages.formats.c.source import bytes_in_source

        return bytes_in_source(data)

    def simulate(self, data: bytes, arrays: Arrays, name: str) -> Arrays | None:
        from stages.formats.c.tflm import micro_is_installed, run_micro

        return run_micro(data, dict(arrays), name).outputs if micro_is_installed() else None
