"""Run the child's program: jobs come as lines on stdin, events go back as lines on stdout, both JSON.

A job is `module:function` with arguments; the function gets a `Speaker` first and returns a JSON value. What libraries
print goes to the log that the parent opened as stderr. There Python also writes where it was when a signal ends it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.contracts.shared import Shared
from pipeline.errors import SecateurError, reason_of
from pipeline.system.memory import give_back

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Speaker:
    """Send messages of a job to the parent; `events` of a stage's context go through it.

    There is one for all jobs of the child: it also holds what they share in memory.
    """

    def __init__(self, stream: int) -> None:
        self._stream = stream
        self.shared = Shared()

    def advanced(self, done: float, total: float, what: str, detail: str = "") -> None:
        self.say({"advanced": [done, total, what, detail]})

    def warned(self, message: str) -> None:
        self.say({"warned": message})

    def say(self, message: Mapping[str, Any]) -> None:
        """Write one line; the child exits if nobody reads it any more."""
        try:
            # `os.write` may take a part of a long line only (a pipe holds 64 KiB on Linux).
            data = memoryview(json.dumps(message).encode() + b"\n")
            while data:
                data = data[os.write(self._stream, data) :]
        except BrokenPipeError:
            os._exit(0)


def main(parent: int, folder: str, modules: Sequence[str]) -> None:
    """Do jobs until stdin ends; `modules` are imported before the first, captured output is kept in `folder`."""
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both: the parent decides what happens
    # Messages get a descriptor of their own: libraries that print to stdout would break the lines of JSON.
    stream = os.dup(1)
    os.dup2(2, 1)  # for whatever prints
    faulthandler.enable(os.dup(2))  # a copy, which silencing does not redirect
    from pipeline.system.quiet import keep_in

    keep_in(Path(folder))
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    # A thread reads stdin so that its end is seen during a job, which may be in C++ for minutes.
    threading.Thread(target=_read, args=(jobs,), daemon=True).start()
    for name in modules:
        with suppress(Exception):  # the job that needs it will report why it is not available
            _prepare(name)
    speaker = Speaker(stream)
    while True:
        _do(json.loads(jobs.get()), speaker)
        give_back()


def die_with(parent: int) -> None:
    """Let the kernel end this process when its parent ends, if it can; at once if that has already happened."""
    if sys.platform == "linux":
        import ctypes

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError):  # out of memory, the kernel kills this process, not the one that writes the manifest
            Path("/proc/self/oom_score_adj").write_text("1000")
        # The parent may have ended before the request was made: the kernel then sends nothing.
        if os.getppid() != parent:
            os._exit(0)


def _read(jobs: queue.SimpleQueue[str]) -> None:
    """Read lines of stdin; its end ends the process, even in the middle of a job."""
    for line in sys.stdin:
        jobs.put(line)
    os._exit(0)


def _prepare(name: str) -> None:
    """Import a module; `module:function` is also called."""
    module, _, function = name.partition(":")
    imported = import_module(module)
    if function:
        getattr(imported, function)()


def _do(job: Mapping[str, Any], speaker: Speaker) -> None:
    with suppress(OSError):  # output of earlier jobs does not explain this one's end
        # The log is a file and stays short this way, and an error shows only what this job printed.
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)
    if job["path"] != sys.path:  # modules of the user's layers are found as in the parent
        sys.path[:] = job["path"]
    try:
        module, _, name = job["function"].partition(":")
        function: Callable[..., Any] = getattr(import_module(module), name)
        answer = {"done": function(speaker, **job["arguments"])}
    except SecateurError as error:
        answer = {
            "failed": {"kind": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint}
        }
    except Exception as error:  # noqa: BLE001 - the parent tells it, with this traceback as its cause
        if isinstance(error, OSError) and error.errno is not None:  # for example a full disk: not the job's fault
            answer = {"system": [error.errno, error.strerror, str(error.filename or "")]}
        else:
            message = f"{type(error).__name__}: {reason_of(error)}"
            answer = {"unforeseen": message, "trace": "".join(traceback.format_exception(error))}
    speaker.say(answer)
