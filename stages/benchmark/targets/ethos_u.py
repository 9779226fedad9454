"""Targets of kind `ethos-u`: what Arm's compiler Vela estimates for an Ethos-U NPU. Every number is an estimate.

Vela ends with success where nothing was accelerated, so the share of operators on the NPU is a metric of its own.
System configuration and memory mode are always named: the defaults differ from family to family.
"""

from __future__ import annotations

import csv
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pipeline.artifacts import Kind
from pipeline.errors import DeviceError
from stages.benchmark.counts import Counts
from stages.benchmark.target import (
    TIMEOUT_S,
    Say,
    Target,
    TargetSettings,
    ending,
    last_lines,
    run_process,
)
from stages.benchmark.targets.tflm import installed

VELA = "import sys; from ethosu.vela.vela import main; sys.exit(main(sys.argv[1:]))"
OPERATORS = re.compile(r"^(CPU|NPU) operators = (\d+)", re.MULTILINE)
KIB = 1024


class EthosUSettings(TargetSettings):
    """Names as Vela has them: `vela --list-configs` and its `vela.ini` tell which there are."""

    accelerator: Literal[
        "ethos-u55-32",
        "ethos-u55-64",
        "ethos-u55-128",
        "ethos-u55-256",
        "ethos-u65-256",
        "ethos-u65-512",
        "ethos-u85-128",
        "ethos-u85-256",
        "ethos-u85-512",
        "ethos-u85-1024",
        "ethos-u85-2048",
    ]
    system_config: str
    memory_mode: str


class EthosUDriver:
    """Vela's estimate of one file."""

    settings: ClassVar[type[TargetSettings]] = EthosUSettings
    metrics: ClassVar[tuple[str, ...]] = (
        "estimated_cycles",
        "estimated_sram_bytes",
        "estimated_npu_share",
        "estimated_cycles_ratio",
        "baseline_estimated_cycles",
        "size_bytes",
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
        with tempfile.TemporaryDirectory(prefix="secateur-") as scratch:
            file = Path(scratch) / "model.tflite"
            shutil.copyfile(model, file)
            options = ["--accelerator-config", settings.accelerator, "--system-config", settings.system_config]
            options += ["--memory-mode", settings.memory_mode, "--output-dir", scratch]
            done = run_process([sys.executable, "-c", VELA, str(file), *options], name, TIMEOUT_S)
            summaries = list(Path(scratch).glob("*_summary_*.csv"))
            if done.returncode != 0 or len(summaries) != 1:
                said = last_lines(done.stderr if done.stderr.strip() else done.stdout)
                raise DeviceError(f"Vela {ending(done.returncode)} and gave no estimate", where=name, hint=said)
            with summaries[0].open(newline="") as summary:
                row = next(csv.DictReader(summary))
        operators = {place: int(number) for place, number in OPERATORS.findall(done.stdout.decode(errors="replace"))}
        total = sum(operators.values())
        share = operators.get("NPU", 0) / total if total else 0.0
        notes = () if share else ("nothing of this model runs on the NPU",)
        return Counts(
            target=target.name,
            runtime=f"Vela {version}, {settings.accelerator}",
            metrics={"estimated_npu_share": share} | (_estimates(row) if share else {}),
            main="estimated_cycles" if share else None,
            spread=0.0,
            estimated=True,
            notes=notes,
        )


def _estimates(row: Mapping[str, str]) -> dict[str, float]:
    """Vela knows the NPU alone: where nothing runs there its zeros say nothing, and are left out."""
    return {
        "estimated_cycles": float(row["cycles_total"]),
        "estimated_sram_bytes": KIB * float(row["sram_memory_used"]),
    }
