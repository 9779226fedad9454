"""Define the facts of files that Vela compiled."""

from __future__ import annotations

from typing import Literal

from pipeline.records.facts import ExportFacts


class VelaFacts(ExportFacts):
    """Describe a TFLite file compiled for an Ethos-U NPU. Cycles and memory are the compiler's estimates, or None.

    They cover only what runs on the NPU; `on_cpu` says what does not, and why.
    """

    kind: Literal["vela-model"] = "vela-model"
    accelerator: str
    system_config: str
    memory_mode: str
    npu_operators: int
    cpu_operators: int
    on_cpu: tuple[str, ...] = ()
    estimated_cycles: float | None
    estimated_sram_bytes: float | None
