"""Talk to the child's program over its pipes, as the parent does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOYS = """
import sys
from pipeline.errors import ModelError

def add(speaker, x, y):
    speaker.advanced(1, 2, "adding")
    speaker.warned("odd")
    print("not for the pipe")
    return x + y

def has(speaker, name):
    return name in sys.modules

def refuse(speaker):
    raise ModelError("no model", where="here", hint="bring another")

def full(speaker):
    raise OSError(28, "No space left on device", "/x")

def stumble(speaker):
    return {}["nothing"]
"""


@pytest.fixture
def child(tmp_path):
    """Start the program, and return it with a function that sends a job and returns all answers up to the last."""
    (tmp_path / "main_toys.py").write_text(TOYS)
    program = (
        f"import os; from stages.formats.apart.main import main; main(os.getppid(), {str(tmp_path)!r}, ['colorsys'])"
    )
    log = (tmp_path / "log").open("w+")
    started = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
    )

    def do(function, **arguments):
        job = {"function": f"main_toys:{function}", "arguments": arguments, "path": [str(tmp_path), *sys.path]}
        started.stdin.write(json.dumps(job) + "\n")
        started.stdin.flush()
        answers = [json.loads(started.stdout.readline())]
        while answers[-1].keys() & {"advanced", "warned"}:
            answers.append(json.loads(started.stdout.readline()))
        return answers

    yield started, do, Path(log.name)
    started.kill()
    started.wait()
    for stream in (started.stdin, started.stdout, log):
        stream.close()


def test_a_job_is_answered_after_what_it_said_and_prints_into_the_log(child):
    _, do, log = child
    assert do("add", x=1, y=2) == [{"advanced": [1, 2, "adding", ""]}, {"warned": "odd"}, {"done": 3}]
    assert do("has", name="colorsys") == [{"done": True}]
    do("add", x=0, y=0)
    assert log.read_text().count("not for the pipe") <= 1  # each job begins with an empty log


def test_errors_are_answers_by_their_kind(child):
    _, do, _ = child
    assert do("refuse") == [
        {"failed": {"kind": "ModelError", "what": "no model", "where": "here", "hint": "bring another"}}
    ]
    assert do("full") == [{"system": [28, "No space left on device", "/x"]}]
    (answer,) = do("stumble")
    assert answer["unforeseen"].startswith("KeyError: ")
    assert "in stumble" in answer["trace"]
    assert do("add", x=1, y=1)[-1] == {"done": 2}


def test_the_end_of_its_input_is_its_end(child):
    started, do, _ = child
    do("has", name="sys")
    started.stdin.close()
    assert started.wait(30) == 0
