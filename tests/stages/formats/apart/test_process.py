"""Test the child for third-party software: its crashes, hangs and memory use are errors here. All jobs are our own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.contracts.events import ActionEvents, Advanced, Event, Warned
from pipeline.errors import ModelError, StageError
from stages.formats.apart import process as child_process
from stages.formats.apart.process import MEMORY_VARIABLE, TIMEOUT_VARIABLE, call_child, end_child, resident_bytes, warm

TOYS = """
import os, signal, sys, time
from pipeline.errors import ModelError

def add(speaker, x, y):
    return {"sum": x + y, "pid": os.getpid()}

def has(speaker, name):
    return name in sys.modules

def tell(speaker, steps):
    for step in range(steps):
        speaker.advanced(step + 1, steps, "steps", f"{step + 1}/{steps}")
    speaker.warned("that was all")
    print("not for the pipe")
    return None

def refuse(speaker):
    raise ModelError("it is no model", where="toy", hint="bring another")

def stumble(speaker):
    return {}["nothing"]

def full(speaker):
    raise OSError(28, "No space left on device", "/x")

def end(speaker, number):
    print("about to go", file=sys.stderr, flush=True)
    os.kill(os.getpid(), number)
    time.sleep(60)

def end_quietly(speaker):
    from pipeline.system.quiet import quiet
    with quiet():
        os.write(2, b"said in silence\\n")
        os.abort()

def hang(speaker):
    time.sleep(600)

def swell(speaker, megabytes):
    held = []
    for _ in range(megabytes):
        held.append(b"x" * (1 << 20))
        time.sleep(0.002)
    time.sleep(60)
"""


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Write a module of harmless jobs that a child of this test can import."""
    (tmp_path / "toys.py").write_text(TOYS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    end_child()


@pytest.fixture
def heard() -> list[Event]:
    return []


@pytest.fixture
def call(toys: None, heard: list[Event]) -> Callable[..., Any]:
    """Call a toy job for an action."""

    def call(function: str, **arguments: Any) -> Any:
        events = ActionEvents("export:toy/int8", heard.append)
        return call_child(f"toys:{function}", arguments, "making toy/int8", where=events.action, events=events)

    return call


def is_gone(pid: int, within_s: float = 10) -> bool:
    """Return whether a process ends within `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        stat = Path(f"/proc/{pid}/stat")
        try:
            if stat.read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_one_child_does_all_jobs_and_is_not_this_process(call: Callable[..., Any]) -> None:
    first, second = call("add", x=1, y=2), call("add", x=3, y=4)
    assert (first["sum"], second["sum"]) == (3, 7)
    assert first["pid"] == second["pid"] != os.getpid()


def test_progress_and_warnings_reach_the_action(call: Callable[..., Any], heard: list[Event]) -> None:
    assert call("tell", steps=3) is None
    assert heard == [
        *(Advanced("export:toy/int8", done, 3, "steps", f"{done}/3") for done in (1, 2, 3)),
        Warned("export:toy/int8", "that was all"),
    ]


def test_errors_of_a_job_keep_their_type_and_the_child(call: Callable[..., Any]) -> None:
    pid = call("add", x=0, y=0)["pid"]
    with pytest.raises(ModelError) as known:
        call("refuse")
    assert (known.value.what, known.value.where, known.value.hint) == ("it is no model", "toy", "bring another")
    with pytest.raises(StageError, match="KeyError: 'nothing'") as unknown:
        call("stumble")
    assert "in stumble" in str(unknown.value.__cause__)
    with pytest.raises(OSError, match="No space left") as full:
        call("full")
    assert (full.value.errno, full.value.filename) == (28, "/x")
    assert call("add", x=0, y=0)["pid"] == pid


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGSEGV, "was killed by SIGSEGV: it touched memory that is not its own"),
        (signal.SIGABRT, "was killed by SIGABRT: it gave up"),
        (signal.SIGKILL, "was killed by SIGKILL: as the system does where memory runs out"),
        (signal.SIGTERM, "was killed by SIGTERM"),
    ],
)
def test_an_end_by_a_signal_is_an_error_and_the_next_job_has_a_new_child(
    call: Callable[..., Any], number: signal.Signals, words: str
) -> None:
    pid = call("add", x=0, y=0)["pid"]
    with pytest.raises(StageError) as caught:
        call("end", number=int(number))
    assert caught.value.what == f"making toy/int8: the process that runs outside software {words}"
    assert (caught.value.where, caught.value.exit_code) == ("export:toy/int8", 4)
    assert "about to go" in str(caught.value.hint)
    assert call("add", x=2, y=2)["sum"] == 4
    assert call("add", x=2, y=2)["pid"] != pid


def test_what_was_said_in_silence_is_told(call: Callable[..., Any]) -> None:
    with pytest.raises(StageError, match="SIGABRT") as caught:
        call("end_quietly")
    assert "said in silence" in str(caught.value.hint)


def test_a_hang_is_ended_and_told(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pid = call("add", x=0, y=0)["pid"]
    monkeypatch.setenv(TIMEOUT_VARIABLE, "0.5")
    with pytest.raises(StageError, match=r"gave no sign of life for 0\.5 s"):
        call("hang")
    assert is_gone(pid)


def test_too_much_memory_is_ended_and_told(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pid = call("add", x=0, y=0)["pid"]
    allowed = resident_bytes(pid) + (100 << 20)
    monkeypatch.setenv(MEMORY_VARIABLE, str(allowed))
    with pytest.raises(StageError, match=r"took 0\.\d GB of memory, 0\.\d GB are allowed"):
        call("swell", megabytes=1000)
    assert is_gone(pid)


def test_an_interruption_ends_the_job(call: Callable[..., Any]) -> None:
    pid = call("add", x=0, y=0)["pid"]

    def interrupted(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_child("toys:tell", {"steps": 1}, "making toy/int8", events=ActionEvents("toy", interrupted))
    assert is_gone(pid)


def test_a_child_that_died_in_its_sleep_is_replaced(call: Callable[..., Any]) -> None:
    pid = call("add", x=0, y=0)["pid"]
    os.kill(pid, signal.SIGKILL)
    # Its first thread can be gone before the others are: until then nobody is told that it ended.
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert call("add", x=1, y=1)["sum"] == 2


def test_a_warm_child_has_imported_what_it_was_told_and_has_its_threads(toys: None) -> None:
    warm(2, ["colorsys", "no_such_module"])
    assert call_child("toys:has", {"name": "colorsys"}, "x", threads=2)
    (child,) = child_process._children
    assert child.threads == 2
    assert call_child("toys:add", {"x": 1, "y": 1}, "x")["pid"] == child.pid
    assert call_child("toys:add", {"x": 1, "y": 1}, "x", threads=1)["pid"] != child.pid  # another thread count
    assert not call_child("toys:has", {"name": "colorsys"}, "x")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("job", ["add", "hang"])
def test_no_child_survives_a_killed_parent(toys: None, tmp_path: Path, number: signal.Signals, job: str) -> None:
    arguments = {"add": {"x": 1, "y": 1}, "hang": {}}[job]
    program = f"""
import sys, threading, time
sys.path[:] = {[str(tmp_path), *sys.path]!r}
from stages.formats.apart.process import _children, call_child
call_child("toys:add", {{"x": 1, "y": 1}}, "x")
print(_children[0].pid, flush=True)
call_child("toys:{job}", {arguments!r}, "x")
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.2)
    assert not is_gone(pid, within_s=0.1)
    parent.send_signal(number)
    parent.wait()
    parent.stdout.close()
    assert is_gone(pid)


FORKING = """
import os, sys, threading
sys.path[:] = {path!r}
from pathlib import Path
from stages.formats.apart import process as child_process
from stages.formats.apart.process import call_child, end_child, warm
from stages.formats.apart.forked import Forked
from stages.keras.tensorflow import import_keras

held = open({file!r})
threading.Thread(target=threading.Event().wait, args=(120,), daemon=True).start()  # as the live line's
warm(2, ["colorsys"])
assert not child_process._children
import_keras()
(child,) = child_process._children
assert isinstance(child._process, Forked) and child.threads == 2
pss = next(int(line.split()[1]) for line in open(f"/proc/{{child.pid}}/smaps_rollup") if line.startswith("Pss_Anon"))
told = call_child("toys:look", {{}}, "looking", threads=2)
try:
    call_child("toys:end", {{"number": 11}}, "ending")
    raise SystemExit("nothing was raised")
except Exception as error:
    said = str(error)
new = call_child("toys:add", {{"x": 1, "y": 2}}, "adding")
started = not isinstance(child_process._children[0]._process, Forked)
print(pss, told, said, new["sum"], new["pid"] != child.pid, started, sep="|")
"""
LOOK = """
def look(speaker):
    import signal, tensorflow
    paths = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    ours = [path for path in paths if os.path.realpath(path).endswith("held-by-the-parent")]
    default = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    return ["colorsys" in sys.modules, ours, default, float(tensorflow.add(1.0, 2.0))]
"""


def test_where_this_process_imports_tensorflow_the_child_is_forked_after_it(tmp_path: Path) -> None:
    """It has TensorFlow at once, none of the parent's files, and little private memory; the next one is started."""
    (tmp_path / "toys.py").write_text(TOYS + LOOK)
    file = tmp_path / "held-by-the-parent"
    file.write_text("")
    program = FORKING.format(path=[str(tmp_path), *sys.path], file=str(file))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    pss, told, said, *rest = done.stdout.strip().split("|")
    assert int(pss) < 150_000  # kB; 190,000 if it imports TensorFlow itself
    assert told == "[True, [], True, 3.0]"
    assert (
        said
        == "ending: the process that runs outside software was killed by SIGSEGV: it touched memory that is not its own"
    )
    assert rest == ["3", "True", "True"]
