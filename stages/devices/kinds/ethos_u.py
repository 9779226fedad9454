"""Estimate performance on an Ethos-U NPU with Arm's compiler Vela (kind `ethos-u`). Every number is an estimate.

Vela succeeds even if nothing was accelerated, so the share of operators on the NPU is a separate metric. Its cycles are
the NPU's alone, and fall when work moves to the CPU: they are compared only if the same operators stay on the CPU.
System configuration and memory mode are always named: the defaults differ between families.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pipeline.records.artifacts import Kind
from pipeline.records.metrics import SIZE, Metric
from stages.devices.counts import Counts
from stages.devices.kinds.tflm import installed
from stages.devices.target import Say, Target, TargetSettings
from stages.formats.vela import CYCLES, ESTIMATES
from stages.formats.vela.accelerator import Accelerator, EthosU
from stages.formats.vela.compiler import compile_for


class EthosUSettings(TargetSettings):
    """Use Vela's names: `vela --list-configs` and its `vela.ini` list them."""

    accelerator: Accelerator
    system_config: str
    memory_mode: str


class EthosUDriver:
    """Return Vela's estimate of one file."""

    settings: ClassVar[type[TargetSettings]] = EthosUSettings
    metrics: ClassVar[tuple[Metric, ...]] = (
        *ESTIMATES,
        Metric(f"{CYCLES.name}_ratio", "ratio", lower_is_better=True, of=CYCLES.name),
        Metric(f"baseline_{CYCLES.name}", "count", lower_is_better=None),
        SIZE,
    )
    formats: ClassVar[tuple[Kind, ...]] = ("tflite-model",)

    def fingerprint(self, target: Target) -> dict[str, str]:
        settings = target.settings
        return {
            "ethos-u-vela": installed("ethos-u-vela", target),
            "accelerator": settings.accelerator,
            "system_config": settings.system_config,
            "memory_mode": settings.memory_mode,
        }

    def set_up(self, target: Target, say: Say) -> None:
        say(f"Vela {installed('ethos-u-vela', target)} is installed: nothing more to set up")

    def count(self, target: Target, model: Path, name: str) -> Counts:
        settings, version = target.settings, installed("ethos-u-vela", target)
        device = EthosU(
            accelerator=settings.accelerator,
            system_config=settings.system_config,
            memory_mode=settings.memory_mode,
        )
        compiled = compile_for(device, model, name)
        # Vela knows the NPU alone: if nothing runs there its zeros are meaningless, and left out.
        share = compiled.npu_share
        estimates = {"estimated_cycles": compiled.cycles, "estimated_sram_bytes": compiled.sram_bytes}
        placed = {"estimated_npu_share": share, "estimated_cpu_operators": float(len(compiled.on_cpu))}
        notes = () if share else ("nothing of this model runs on the NPU",)
        return Counts(
            target=target.name,
            runtime=f"Vela {version}, {settings.accelerator}",
            metrics=placed | (estimates if share else {}),
            main="estimated_cycles" if share else None,
            spread=0.0,
            estimated=True,
            notes=(*notes, *compiled.said),
            # Else moving work to the CPU would look like a gain: for a U55, Vela 5.2 estimates a third fewer cycles for
            # a mean over 4,160 positions, which leaves the NPU, than for one over 4,096.
            left_out=compiled.on_cpu,
        )
