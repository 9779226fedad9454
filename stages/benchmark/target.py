"""Targets: where the device runner runs, and what tells one device from another.

Whatever a process does on its target (crash, hang, print nonsense), what comes back is a Measurement or a
DeviceError that names the artifact, how the process ended and the last it said.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import DeviceError

if TYPE_CHECKING:  # pydantic takes 5 ms to build it, and a fingerprint needs none
    from stages.benchmark.measurement import Measurement

RUNNER = Path(__file__).with_name("runner.py")
TIMEOUT_S = 600.0
LAST_LINES = 5


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one process takes its samples: at least `min_iterations` of them, and for `seconds`."""

    seconds: float = 0.1
    threads: int = 1
    seed: int = 0
    min_iterations: int = 20
    warmup: int = 5

    def arguments(self) -> list[str]:
        """The runner's options."""
        return [
            *("--seconds", repr(self.seconds), "--threads", str(self.threads), "--seed", str(self.seed)),
            *("--min-iterations", str(self.min_iterations), "--warmup", str(self.warmup)),
        ]


def measure(target: str, model: Path, sampling: Sampling, name: str, timeout_s: float = TIMEOUT_S) -> Measurement:
    """Run `model` in a fresh process on `target`; `name` is what errors call it. Raises DeviceError."""
    return run_command([*_command(target), str(model), *sampling.arguments()], name, timeout_s)


def run_command(command: Sequence[str], name: str, timeout_s: float) -> Measurement:
    """The measurement that a runner's command line prints; DeviceError for anything else."""
    import subprocess

    from pydantic import ValidationError

    from stages.benchmark.measurement import Measurement

    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"the device runner gave no result within {timeout_s:g} s",
            where=name,
            hint=f"the model may be too slow for this target; its last words: {_last_lines(error.stderr)}",
        ) from error
    except OSError as error:
        raise DeviceError(f"the device runner could not be started: {error}", where=name) from error
    last_words = _last_lines(done.stderr)
    reported = _reported_error(done.stdout)
    if reported is not None:
        raise DeviceError(f"the device runner can't measure this model: {reported}", where=name, hint=last_words)
    if done.returncode != 0:
        raise DeviceError(f"the device runner {_ending(done.returncode)}", where=name, hint=last_words)
    try:
        return Measurement.model_validate_json(done.stdout)
    except ValidationError as error:
        raise DeviceError(
            f"the device runner printed no valid measurement ({error.error_count()} faults)",
            where=name,
            hint=f"{error.errors()[0]['msg']}; its last words: {last_words}",
        ) from error


def device_fingerprint(target: str) -> dict[str, str]:
    """What latency on `target` depends on as a device; it enters the key of each measurement. Cheap: no imports."""
    from stages.benchmark.runner import cpu_model

    _command(target)
    return {
        "cpu_model": cpu_model(),
        "cores": str(os.cpu_count() or 1),
        "machine": platform.machine(),
        "system": platform.system(),
    }


def _command(target: str) -> list[str]:
    if target != "cpu":
        raise DeviceError(f"there is no target {target!r}", hint="the targets are: cpu")
    return [sys.executable, str(RUNNER)]


def _reported_error(stdout: bytes) -> str | None:
    try:
        document = json.loads(stdout)
    except ValueError:
        return None
    return str(document["error"]) if isinstance(document, dict) and "error" in document else None


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def _last_lines(stderr: bytes | None) -> str:
    lines = (stderr or b"").decode("utf-8", "replace").strip().splitlines()
    return "\n".join(lines[-LAST_LINES:]) or "(nothing on stderr)"
