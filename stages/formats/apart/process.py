"""Run third-party software on models in a child: its crash, hang or memory use is an error here, not our end.

There is one child per process, started on first use or ahead of time (`warm`), kept for later jobs, and replaced after
it ended. See docs/design/child-process.md.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import errors
from pipeline.contracts.events import ActionEvents
from pipeline.errors import PLEASE_REPORT, NativeEndError, SecateurError, StageError
from pipeline.records.values import Json
from pipeline.system.memory import usable_bytes
from pipeline.system.quiet import KEPT_PREFIX
from stages.formats.apart import main as child_main
from stages.formats.apart.ending import Ending, described
from stages.formats.apart.forked import Forked
from stages.keras import tensorflow as tf_runtime

# The parent's `sys.path` first: the child must import the same packages, and stages of plugins, as the parent.
PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from stages.formats.apart.main import main
main(int(sys.argv[2]), sys.argv[3], sys.argv[4:])
"""
TIMEOUT_VARIABLE, MEMORY_VARIABLE = "SECATEUR_CHILD_TIMEOUT", "SECATEUR_CHILD_MEMORY"
SILENCE_S = 1800.0  # without output; calibration reports after each sample, the largest conversions take minutes
MEMORY_SHARE = 0.9
LOOK_S = 0.25
END_S = 5.0  # for a process that was told to end, or whose stdout has closed
LAST_BYTES = 4000

Hear = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limit a job: seconds without a sign of life, resident bytes."""

    silence_s: float
    memory_bytes: int


def limits() -> Limits:
    """Return the limits from the environment, else generous ones; invalid numbers are ignored."""
    return Limits(
        silence_s=_number(TIMEOUT_VARIABLE, SILENCE_S),
        memory_bytes=int(_number(MEMORY_VARIABLE, MEMORY_SHARE * usable_bytes())),
    )


def _number(name: str, default: float) -> float:
    try:
        value = float(os.environ.get(name, ""))
    except ValueError:
        return default
    return value if value > 0 else default


class Ended(Exception):
    """Raised if a child ended before its job did."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.how)
        self.ending = ending


class Child:
    """Manage one child process; `modules` are imported in it before its first job."""

    def __init__(self, threads: int, modules: Sequence[str] = (), *, fork: bool = False) -> None:
        self.threads = threads
        self.folder = tempfile.TemporaryDirectory(prefix="secateur-", ignore_cleanup_errors=True)
        self._log = Path(self.folder.name) / "log"
        parent, folder = os.getpid(), self.folder.name
        arguments = [json.dumps(sys.path), str(parent), folder, *modules]
        with self._log.open("wb") as log:
            self._process: subprocess.Popen[bytes] | Forked = (
                Forked(log.fileno(), lambda: child_main.main(parent, folder, modules))
                if fork
                else subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    # A file, not a pipe: nobody would read a pipe while a job runs, and a full one blocks the child.
                    stderr=log,
                )
            )
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # A thread of its own reads, because a read from a pipe has no timeout and memory is checked meanwhile.
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def call(self, function: str, arguments: Mapping[str, Any], hear: Hear, bounds: Limits) -> Mapping[str, Any]:
        """Return the last line of a job, its result or its error; `hear` gets those before it.

        `Ended` if the process does not get that far; then, and if `hear` raises, it has been ended.
        """
        try:
            self._send({"function": function, "arguments": dict(arguments), "path": sys.path})
            while True:
                message = self._next(bounds)
                if not {"advanced", "warned"} & message.keys():
                    return message
                hear(message)
        except BaseException:
            # Also at Ctrl-C: the answer of an abandoned job would be taken for that of the next one.
            self.end()
            raise

    def end(self) -> None:
        """End the process, whatever it does, and remove its files."""
        # SIGKILL at once: C++ in the middle of a conversion reacts to nothing else, and it has nothing to save.
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        self.folder.cleanup()

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # It ended between two jobs, or while it imported: this is where that is noticed.
            raise Ended(self._ending(None)) from None

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._lines.put(line)
        except ValueError:  # closed by `end`
            pass
        self._lines.put(None)

    def _next(self, bounds: Limits) -> Mapping[str, Any]:
        """Return the next line; `Ended` if there is none in time, or memory runs out."""
        deadline = time.monotonic() + bounds.silence_s
        while True:
            # At every look and not with each message: a conversion may fill the memory within one call.
            used = resident_bytes(self.pid)
            if used > bounds.memory_bytes:
                reason = f"took {used / 1e9:.1f} GB of memory, {bounds.memory_bytes / 1e9:.1f} GB are allowed"
                raise Ended(self._ending(reason))
            try:
                line = self._lines.get(timeout=LOOK_S)
            except queue.Empty:
                if time.monotonic() > deadline:
                    raise Ended(self._ending(f"gave no sign of life for {bounds.silence_s:g} s")) from None
                continue
            if line is None:
                raise Ended(self._ending(None))
            message: Mapping[str, Any] = json.loads(line)
            return message

    def _ending(self, why: str | None) -> Ending:
        """Describe how the process ended; given our own reason, end it here."""
        if why is not None and sys.platform != "win32":
            self._process.send_signal(signal.SIGABRT)  # makes Python write where it is
        try:
            status = self._process.wait(timeout=END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        return described(status, why, _tail(self._log), [_tail(file) for file in _said(Path(self.folder.name))])


_children: list[Child] = []  # at most one
_wanted: list[tuple[int, tuple[str, ...]]] = []  # threads and modules of a child to be started; at most one
_lock = threading.Lock()


def warm(threads: int, modules: Sequence[str] = ()) -> None:
    """Start the child, unless there is one with that many threads; `modules` are imported in it meanwhile.

    If this process has yet to import TensorFlow, the child is forked after that, or starts with the first job.
    """
    with _lock:
        if not _children and sys.platform == "linux" and "tensorflow" not in sys.modules:
            _wanted[:] = [(threads, tuple(modules))]
            # Not forked here: the point is to share the import of TensorFlow, which this process has not done yet.
            tf_runtime.after_import(_fork)
        else:
            _ready(threads, modules)


def _fork() -> None:
    """Fork the requested child, right after TensorFlow was imported, so that it shares the import."""
    with _lock:
        if _wanted and not _children:
            _children.append(Child(*_wanted.pop(), fork=True))


def call_child(
    function: str,
    arguments: Mapping[str, Any],
    doing: str,
    *,
    threads: int = 0,
    where: str | None = None,
    events: ActionEvents | None = None,
) -> Json:
    """Return the result of `module:function` in the child, a JSON value. Its errors are raised here unchanged.

    `doing` describes the purpose; `events` receives progress and warnings. NativeEndError if the child crashes, hangs
    or takes too much memory; the next call gets a new one. `threads` of 0 accepts any child.
    """
    # Held during the whole job: one child with one pair of pipes serves one caller at a time.
    with _lock:
        try:
            answer = _ready(threads).call(function, arguments, lambda message: _heard(message, events), limits())
        except Ended as ended:
            raise _native_end(ended.ending, doing, where) from ended
    if "done" in answer:
        return answer["done"]
    # The child's traceback as text: exceptions of outside packages can't all be pickled, and JSON holds none.
    raise _error(answer, where) from (RuntimeError(answer["trace"]) if "trace" in answer else None)


def end_child() -> None:
    """End the child, if there is one, to free its memory."""
    _wanted.clear()
    while _children:
        _children.pop().end()


atexit.register(end_child)


def _ready(threads: int, modules: Sequence[str] = ()) -> Child:
    """Return the existing child or a new one: TensorFlow's thread counts can't be changed in a running process."""
    # 0 stands for a child in which no thread count is fixed yet: it takes the first one that is asked for.
    if _children and (not _children[0].alive or (threads and _children[0].threads not in (0, threads))):
        end_child()
    if not _children:
        wanted = _wanted.pop() if _wanted else (threads, modules)
        _children.append(Child(threads or wanted[0], wanted[1]))
    _children[0].threads = _children[0].threads or threads
    return _children[0]


def _heard(message: Mapping[str, Any], events: ActionEvents | None) -> None:
    if events is None:
        return
    if "advanced" in message:
        events.advanced(*message["advanced"])
    else:
        events.warned(message["warned"])


def _native_end(ending: Ending, doing: str, where: str | None) -> NativeEndError:
    hint = "outside software failed on this model, all else goes on without it: take another scheme or format here"
    output = f"; the last it said: {ending.said}" if ending.said else ""
    return NativeEndError(f"{doing}: {ending.who} {ending.how}", where=where, hint=f"{hint}{output}")


def _error(answer: Mapping[str, Any], where: str | None) -> Exception:
    """Return the error of a job, of the same type."""
    if "failed" in answer:
        failure = answer["failed"]
        kind = getattr(errors, failure["kind"], StageError)
        # The name comes from another process: `errors` also holds functions and what it imports.
        assert issubclass(kind, SecateurError)
        return kind(failure["what"], where=failure["where"], hint=failure["hint"])
    if "system" in answer:
        return OSError(*answer["system"])
    return StageError(answer["unforeseen"], where=where, hint=PLEASE_REPORT)


def resident_bytes(pid: int) -> int:
    """Return a process' resident memory in bytes; 0 if the system does not report it."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _said(folder: Path) -> list[Path]:
    """Return the output that was being captured when the child ended, the oldest first."""
    return sorted(folder.glob(f"{KEPT_PREFIX}*"), key=lambda path: path.stat().st_mtime_ns)


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LAST_BYTES))
        return file.read().decode(errors="replace")
