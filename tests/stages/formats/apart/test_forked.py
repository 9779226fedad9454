"""Fork children off a process of our own, which has one thread: this one's are TensorFlow's."""

import subprocess
import sys

PROGRAM = """
import os, subprocess, sys, tempfile
from stages.formats.apart.forked import Forked

def echo():
    print("for the log", file=sys.stderr, flush=True)
    for line in sys.stdin:
        print(line.strip().upper(), os.getppid(), flush=True)
    os._exit(7)

with tempfile.TemporaryFile() as log:
    child = Forked(log.fileno(), echo)
    assert child.poll() is None
    child.stdin.write(b"hello\\n")
    child.stdin.flush()
    word, parent = child.stdout.readline().split()
    assert (word, int(parent)) == (b"HELLO", os.getpid())
    child.stdin.close()
    status = child.wait(30)
    log.seek(0)
    said = log.read()

silent = Forked(2, lambda: __import__("time").sleep(60))
try:
    silent.wait(0.1)
    raise SystemExit("it did not wait")
except subprocess.TimeoutExpired:
    pass
silent.kill()
killed = silent.wait(30)
silent.kill()  # of what is gone already: nothing happens
failed = Forked(2, lambda: 1 / 0)
print(status, said, killed, failed.wait(30), silent.poll())
"""


def test_a_child_reads_and_writes_ends_and_is_killed_as_one_of_subprocess_is():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "7 b'for the log\\n' -9 1 -9\n"  # an error never returns into the parent's code
