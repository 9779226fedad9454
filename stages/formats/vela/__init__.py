"""Compile TFLite files for Ethos-U accelerators with Vela."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pipeline.contracts.stage import StageContext, StageResult
from pipeline.records.artifacts import Kind
from pipeline.records.facts import QuantizedFacts
from pipeline.records.metrics import Metric
from pipeline.records.schemes import Quantization, Scheme
from stages.formats.format import Content, FormatSettings
from stages.formats.tflite import TFLite
from stages.formats.vela.settings import VelaSettings

NPU_SCHEMES: tuple[Scheme, ...] = ("int8",)
CYCLES = Metric(
    "estimated_cycles", "count", lower_is_better=True, judged_as="cycles", told="about {} cycles (estimate)"
)
NPU_SHARE = Metric(
    "estimated_npu_share",
    "share",
    lower_is_better=False,
    judged_as="npu",
    tolerance=0.0,
    told="{:.0%} of the operators on the NPU",
)
ESTIMATES = (
    CYCLES,
    Metric("estimated_sram_bytes", "bytes", lower_is_better=True),
    NPU_SHARE,
    Metric("estimated_cpu_operators", "count", lower_is_better=True, of=NPU_SHARE.name),
)


class Vela:
    """Compile the TFLite file for an Ethos-U."""

    name: ClassVar[str] = "vela"
    kind: ClassVar[Kind] = "vela-model"
    settings: ClassVar[type[FormatSettings]] = VelaSettings
    extra_package: ClassVar[str] = "ethos-u-vela"
    packages: ClassVar[tuple[str, ...]] = (*TFLite.packages, extra_package)
    runtime_packages: ClassVar[tuple[str, ...]] = (extra_package,)
    metrics: ClassVar[tuple[Metric, ...]] = ESTIMATES
    made_from: ClassVar[str | None] = TFLite.name
    file_counts: ClassVar[tuple[int, ...]] = (1,)
    imports: ClassVar[tuple[str, ...]] = TFLite.imports
    elsewhere: ClassVar[str] = "only an Ethos-U runs it"

    def recognises(self, data: Content) -> bool:
        return False  # it is a TFLite file, with an operator that only the device has

    def beside(self, model: Path) -> tuple[Path, ...]:
        return ()

    def refuses(self, how: Quantization) -> str | None:
        if how.scheme not in NPU_SCHEMES:
            return "an Ethos-U computes in integers: take int8"
        return TFLite().refuses(how)

    def convert(self, context: StageContext[Any], quantized: QuantizedFacts) -> StageResult:
        from stages.formats.vela.convert import compiled_of

        return compiled_of(context, quantized)
