"""Run programs in separate processes: a crash, a hang or invalid output there becomes a DeviceError here."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import DeviceError

TIMEOUT_S = 600.0
LAST_LINES = 5


@dataclass(frozen=True, slots=True)
class Ended:
    """Describe a process that has ended."""

    returncode: int
    stdout: bytes
    stderr: bytes


def run_process(
    command: Sequence[str],
    name: str,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    given: bytes = b"",
    program: str = "the device runner",
) -> Ended:
    """Run a command with `given` on its stdin; DeviceError if it can't start or takes longer than `timeout_s`.

    Errors call the command `program`, and what it works on `name`.
    """
    import subprocess  # plans and cached runs load this module, and start no process

    try:
        done = subprocess.run(
            command, capture_output=True, input=given, timeout=timeout_s, check=False, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"{program} gave no result within {timeout_s:g} s",
            where=name,
            hint=f"the model may be too much for it; its last words: {last_lines(error.stderr)}",
        ) from error
    except OSError as error:
        raise DeviceError(f"{program} could not be started: {error}", where=name) from error
    return Ended(done.returncode, done.stdout, done.stderr)


def require_success(done: Ended, name: str, program: str, refuses: str) -> None:
    """Raise DeviceError if a program that prints one JSON document reports an error in it, or did not succeed."""
    reported = _reported_error(done.stdout)
    if reported is not None:
        raise DeviceError(f"{program} {refuses}: {reported}", where=name, hint=last_lines(done.stderr))
    if done.returncode != 0:
        raise DeviceError(f"{program} {ending(done.returncode)}", where=name, hint=last_lines(done.stderr))


def _reported_error(stdout: bytes) -> str | None:
    """Return what went wrong in the runner's own words, if its document says so."""
    try:
        document = json.loads(stdout)
    except ValueError:
        return None
    return str(document["error"]) if isinstance(document, dict) and "error" in document else None


def ending(status: int) -> str:
    """Describe how a process ended."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def last_lines(stderr: bytes | None) -> str:
    """Return the last lines that a process printed."""
    lines = (stderr or b"").decode("utf-8", "replace").strip().splitlines()
    return "\n".join(lines[-LAST_LINES:]) or "(nothing on stderr)"
