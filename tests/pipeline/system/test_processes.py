import sys

import pytest

from pipeline.errors import DeviceError
from pipeline.system.processes import ending, require_success, run_process


def python(program, **options):
    return run_process([sys.executable, "-c", program], "a model", options.pop("timeout_s", 30), **options)


def test_a_program_gets_its_input_and_environment_and_is_told_how_it_ended():
    program = "import os, sys; sys.stdout.write(sys.stdin.read() + os.environ['MINE']); sys.exit(3)"
    done = python(program, given=b"given ", environment={"MINE": "set"})
    assert (done.returncode, done.stdout, done.stderr) == (3, b"given set", b"")
    with pytest.raises(DeviceError, match="TFLM ended with exit status 3") as caught:
        require_success(done, "a model", "TFLM", "refuses it")
    assert (caught.value.where, caught.value.hint) == ("a model", "(nothing on stderr)")


def test_an_error_in_the_document_is_told_in_its_own_words():
    program = "import sys; print('{\"error\": \"no kernel\"}'); print(*range(9), sep='\\n', file=sys.stderr)"
    with pytest.raises(DeviceError, match="TFLM refuses it: no kernel") as caught:
        require_success(python(program), "a model", "TFLM", "refuses it")
    assert caught.value.hint == "4\n5\n6\n7\n8"
    require_success(python("print('{}')"), "a model", "TFLM", "refuses it")


def test_a_hang_ends_with_the_last_words():
    program = "import sys, time; print('loading', file=sys.stderr, flush=True); time.sleep(60)"
    with pytest.raises(DeviceError, match=r"the device runner gave no result within 3 s") as caught:
        python(program, timeout_s=3)
    assert caught.value.hint.endswith("its last words: loading")


def test_signals_have_names():
    assert [ending(status) for status in (0, 9, -11, -200)] == [
        "ended with exit status 0",
        "ended with exit status 9",
        "was killed by SIGSEGV",
        "was killed by signal 200",
    ]
