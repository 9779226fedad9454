"""Describe how a child process ended: the signal, whose function it was in, and its last messages."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.system.processes import LAST_LINES, ending

# What a frame's file belongs to, by a part of its path; the first frame that belongs to any is reported.
# The order matters: longer paths stand before those that they contain.
OUTSIDE = (
    ("/tensorflow/lite/python/optimize/", "TensorFlow's quantizer of TFLite files"),
    ("/tensorflow/lite/", "TensorFlow's TFLite converter"),
    ("/ai_edge_litert/", "LiteRT"),
    ("/ai_edge_quantizer/", "ai-edge-quantizer"),
    ("/onnxruntime/quantization/", "ONNX Runtime's quantizer"),
    ("/onnxruntime/", "ONNX Runtime"),
    ("/tf2onnx/", "tf2onnx"),
    ("/onnx/", "onnx"),
    ("/tensorflow/", "TensorFlow"),
    ("/tf_keras/", "Keras"),
)
MEANINGS = {
    "SIGSEGV": "it touched memory that is not its own",
    "SIGBUS": "it touched memory that is not there",
    "SIGABRT": "it gave up",
    "SIGILL": "it wants instructions that this processor lacks",
    "SIGFPE": "it divided by zero",
    "SIGKILL": "as the system does where memory runs out",
}
FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line \d+ in (?P<function>\S+)', re.MULTILINE)
DUMP = re.compile(r"^Fatal Python error: ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Ending:
    """Hold which function of `who` was running, `how` it ended, and the last messages."""

    who: str
    how: str
    said: str


def described(status: int, why: str | None, log: str, said: Sequence[str]) -> Ending:
    """Describe the end of a process with this exit status; `why` is the reason if we ended it.

    `log` is its stderr, with Python's own words at a signal; `said` is what libraries printed while they were silenced,
    the latest last.
    """
    before, dumped = _split(log)
    frames = [(match["file"].replace("\\", "/"), match["function"]) for match in FRAME.finditer(dumped)]
    named = ((owner, function) for file, function in frames for part, owner in OUTSIDE if part in file)
    owner, function = next(named, ("the process that runs outside software", ""))
    lines = [line for text in (before, *said) for line in text.strip().splitlines() if line.strip()]
    return Ending(
        who=f"{owner} (in {function})" if function else owner,
        how=why or _ended(status),
        said="\n".join(lines[-LAST_LINES:]),
    )


def _split(log: str) -> tuple[str, str]:
    """Split what was printed from what Python wrote at the end."""
    match = DUMP.search(log)
    return (log[: match.start()], log[match.start() :]) if match else (log, "")


def _ended(status: int) -> str:
    text = ending(status)
    try:
        meaning = MEANINGS.get(signal.Signals(-status).name) if status < 0 else None
    except ValueError:
        meaning = None
    return f"{text}: {meaning}" if meaning else text
