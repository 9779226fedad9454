"""Compile a TFLite file for an Ethos-U NPU with Arm's compiler Vela, including the compiler's own estimates.

Vela succeeds even if nothing was accelerated, so operators on the NPU and on the CPU are counted. System configuration
and memory mode are always named: the defaults differ between families.
"""

from __future__ import annotations

import csv
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DeviceError
from pipeline.system.processes import TIMEOUT_S, ending, last_lines, run_process
from stages.formats.tflite.tensors import count_operators
from stages.formats.vela.accelerator import EthosU

PACKAGE = "ethos-u-vela"
# Not the script `vela`: it may not be on the PATH of a virtual environment that is called by its interpreter.
VELA = "import sys; from ethosu.vela.vela import main; sys.exit(main(sys.argv[1:]))"
OPERATORS = re.compile(r"^(CPU|NPU) operators = (\d+)", re.MULTILINE)
WHY = re.compile(
    r"^Warning \(supported operators\) operator: (?P<kind>\w+), ofm: '(?P<name>[^'\n]*)'\n(?:Reason: )?(?P<why>[^\n]+)"
    r"|^Warning: (?P<kind2>\w+) operation is unknown[^\n]*"
    r"|^Warning: (?:Unsupported TensorFlow Lite semantics for )?(?P<kind3>\w+) '(?P<name3>[^'\n]*)'"
    r"[^\n]*Placing on CPU instead[^\n]*\n(?: - (?P<why3>[^\n]+))?",
    re.MULTILINE,
)
NPU_CODE = "CUSTOM"  # Vela's replacement for what it compiled
KIB = 1024


@dataclass(frozen=True, slots=True)
class Compiled:
    """Hold Vela's result: the compiled file, the operators on each side, and its estimates for the NPU's part.

    `on_cpu` lists the kinds of the operators that were left to the CPU, sorted, one per operator: the estimates exclude
    their cost. `reasons` is what Vela says of them.
    """

    data: bytes
    npu_operators: int
    cpu_operators: int
    cycles: float
    sram_bytes: float
    on_cpu: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def npu_share(self) -> float:
        """Return the share of operators on the NPU."""
        total = self.npu_operators + self.cpu_operators
        return self.npu_operators / total if total else 0.0

    @property
    def said(self) -> tuple[str, ...]:
        """Return descriptions of what runs on the CPU, and why; nothing if all runs on the NPU."""
        if not self.on_cpu:
            return ()
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(self.on_cpu).items())
        return (f"on the CPU, and in no estimate: {kinds}", *self.reasons)


def compile_for(device: EthosU, model: Path, name: str) -> Compiled:
    """Compile `model`, a TFLite file, for `device`; DeviceError, which calls it `name`, if Vela refuses it."""
    with tempfile.TemporaryDirectory(prefix="secateur-") as scratch:
        # A copy: Vela refuses a file without the suffix, and files in the store are named by digest.
        file = Path(scratch) / "model.tflite"
        shutil.copyfile(model, file)
        options = ["--accelerator-config", device.accelerator, "--system-config", device.system_config]
        options += ["--memory-mode", device.memory_mode, "--output-dir", scratch]
        done = run_process([sys.executable, "-c", VELA, str(file), *options], name, TIMEOUT_S, program="Vela")
        summaries = list(Path(scratch).glob("*_summary_*.csv"))
        # Vela names the summary after the model and the configuration: it is found by pattern.
        if done.returncode != 0 or len(summaries) != 1:
            output = last_lines(done.stderr if done.stderr.strip() else done.stdout)
            raise DeviceError(f"Vela {ending(done.returncode)} and gave no estimate", where=name, hint=output)
        with summaries[0].open(newline="") as summary:
            row = next(csv.DictReader(summary))
        made = list(Path(scratch).glob("*_vela.tflite"))
        output = done.stdout.decode(errors="replace")
        counts = {side: int(number) for side, number in OPERATORS.findall(output)}
        data = made[0].read_bytes() if made else file.read_bytes()
        return Compiled(
            data=data,
            npu_operators=counts.get("NPU", 0),
            cpu_operators=counts.get("CPU", 0),
            cycles=float(row["cycles_total"]),
            sram_bytes=KIB * float(row["sram_memory_used"]),
            on_cpu=_left(count_operators(data)),
            reasons=_reasons(output),
        )


def _left(operators: Mapping[str, int]) -> tuple[str, ...]:
    """Return the kinds of the operators of a compiled file that Vela did not compile, one per operator."""
    return tuple(kind for kind, count in operators.items() if kind != NPU_CODE for _ in range(count))


def _reasons(output: str) -> tuple[str, ...]:
    """List why operators stay on the CPU, in Vela's words, such as `MEAN 'model/mean': Reduced axis is too large`."""
    reasons = []
    for match in WHY.finditer(output):
        kind = match["kind"] or match["kind2"] or match["kind3"]
        name, why = match["name"] or match["name3"], match["why"] or match["why3"] or "not supported on the NPU"
        reasons.append(f"{kind}{f' {name!r}' if name else ''}: {why.strip()}")
    return tuple(dict.fromkeys(reasons))
