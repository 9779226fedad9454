"""Fork a child off this process, with the interface of a `subprocess.Popen`: it shares what was imported here.

Importing TensorFlow twice would cost 190 MB and five seconds of CPU time more. So if this process imports it, the child
is forked right after that: no operation has run, and TensorFlow has no threads yet. Linux only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import IO, NoReturn

POLL_S = 0.01


class Forked:
    """Represent the parent's side; `stdin` and `stdout` are pipes, stderr goes to the file descriptor `log`."""

    def __init__(self, log: int, run: Callable[[], None]) -> None:
        child_stdin, stdin = os.pipe()
        stdout, child_stdout = os.pipe()
        # What is still in the buffers would be copied by the fork and printed by both processes.
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # other threads hold no lock that the child takes
            # Safe only while TensorFlow has run nothing: its thread pools do not exist after a fork, and an operation
            # in the child would wait for them forever (https://github.com/tensorflow/tensorflow/issues/8220,
            # issues/2448).
            self.pid = os.fork()
        if not self.pid:
            _become(child_stdin, child_stdout, log, run)
        os.close(child_stdin)
        os.close(child_stdout)
        self.stdin: IO[bytes] | None = os.fdopen(stdin, "wb")
        self.stdout: IO[bytes] | None = os.fdopen(stdout, "rb")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            # Code of others may have collected it (`os.wait`): then its status is lost.
            with suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status; TimeoutExpired if it does not end within `timeout` seconds."""
        began = time.monotonic()
        while (status := self.poll()) is None:
            if timeout is not None and time.monotonic() - began > timeout:
                raise subprocess.TimeoutExpired("child", timeout)
            time.sleep(POLL_S)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _become(child_stdin: int, child_stdout: int, log: int, run: Callable[[], None]) -> NoReturn:
    """Set up the child: separate streams, no other file of the parent's, and no return into the parent's code."""
    try:
        for descriptor, number in enumerate((child_stdin, child_stdout, log)):
            os.dup2(number, descriptor)
        # The parent's ends of both pipes above all: while a copy of them is open here, stdin never ends.
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        # New objects: another thread may have held the lock of the parent's.
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as long as the process
        sys.stdout, sys.stderr = (open(descriptor, "w", closefd=False) for descriptor in (1, 2))  # noqa: SIM115
        # The parent's handler came along in the fork, and would raise KeyboardInterrupt in the middle of a conversion.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        run()
    finally:
        # Never `sys.exit`: the parent's atexit functions and buffered files would be run and written a second time
        # here.
        os._exit(1)
