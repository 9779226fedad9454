"""Arm's compiler Vela: a TFLite file compiled for an Ethos-U NPU, with the compiler's own estimates.

Vela ends with success where nothing was accelerated, so what runs on the NPU and what stays on the CPU is counted.
System configuration and memory mode are always named: the defaults differ from family to family.
"""

from __future__ import annotations

import csv
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DeviceError
from stages.ethos_u import EthosU
from stages.processes import TIMEOUT_S, ending, last_lines, run_process

PACKAGE = "ethos-u-vela"
VELA = "import sys; from ethosu.vela.vela import main; sys.exit(main(sys.argv[1:]))"
OPERATORS = re.compile(r"^(CPU|NPU) operators = (\d+)", re.MULTILINE)
KIB = 1024


@dataclass(frozen=True, slots=True)
class Compiled:
    """What Vela made: the compiled file, the operators on each side, and its estimates of what runs on the NPU."""

    data: bytes
    npu_operators: int
    cpu_operators: int
    cycles: float
    sram_bytes: float

    @property
    def npu_share(self) -> float:
        """Of the operators, those on the NPU."""
        total = self.npu_operators + self.cpu_operators
        return self.npu_operators / total if total else 0.0


def compile_for(device: EthosU, model: Path, name: str) -> Compiled:
    """`model`, a TFLite file, compiled for `device`; DeviceError, which calls it `name`, if Vela refuses it."""
    with tempfile.TemporaryDirectory(prefix="secateur-") as scratch:
        file = Path(scratch) / "model.tflite"
        shutil.copyfile(model, file)
        options = ["--accelerator-config", device.accelerator, "--system-config", device.system_config]
        options += ["--memory-mode", device.memory_mode, "--output-dir", scratch]
        done = run_process([sys.executable, "-c", VELA, str(file), *options], name, TIMEOUT_S)
        summaries = list(Path(scratch).glob("*_summary_*.csv"))
        if done.returncode != 0 or len(summaries) != 1:
            said = last_lines(done.stderr if done.stderr.strip() else done.stdout)
            raise DeviceError(f"Vela {ending(done.returncode)} and gave no estimate", where=name, hint=said)
        with summaries[0].open(newline="") as summary:
            row = next(csv.DictReader(summary))
        made = list(Path(scratch).glob("*_vela.tflite"))
        counts = {place: int(number) for place, number in OPERATORS.findall(done.stdout.decode(errors="replace"))}
        return Compiled(
            data=made[0].read_bytes() if made else file.read_bytes(),
            npu_operators=counts.get("NPU", 0),
            cpu_operators=counts.get("CPU", 0),
            cycles=float(row["cycles_total"]),
            sram_bytes=KIB * float(row["sram_memory_used"]),
        )
