"""How a child process ended, in words: the signal, whose function it was in, and the last that was said."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.system.processes import LAST_LINES, ending

# What a frame's file belongs to, by a part of its path; the first frame that belongs to any is told.
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
    """`who` was at work in which of its functions, `how` that ended, and the last lines that were said."""

    who: str
    how: str
    said: str


def described(status: int, why: str | None, log: str, said: Sequence[str]) -> Ending:
    """The end of a process with this exit status; `why` is the reason where it was ended by us.

    `log` is what stood on its stderr, with Python's own words at a signal, `said` what libraries said while they were
    kept quiet, the latest last.
    """
    before, dumped = _split(log)
    frames = [(found["file"].replace("\\", "/"), found["function"]) for found in FRAME.finditer(dumped)]
    named = ((owner, function) for file, function in frames for part, owner in OUTSIDE if part in file)
    owner, function = next(named, ("the process that runs outside software", ""))
    lines = [line for text in (before, *said) for line in text.strip().splitlines() if line.strip()]
    return Ending(
        who=f"{owner} (in {function})" if function else owner,
        how=why or _ended(status),
        said="\n".join(lines[-LAST_LINES:]),
    )


def _split(log: str) -> tuple[str, str]:
    """What was said, and what Python wrote down at the end."""
    found = DUMP.search(log)
    return (log[: found.start()], log[found.start() :]) if found else (log, "")


def _ended(status: int) -> str:
    said = ending(status)
    try:
        meaning = MEANINGS.get(signal.Signals(-status).name) if status < 0 else None
    except ValueError:
        meaning = None
    return f"{said}: {meaning}" if meaning else said
