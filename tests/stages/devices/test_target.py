"""Check that whatever a process does, it ends as a measurement or as one error that says which model and why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import DeviceError, RecipeError
from stages.devices.target import Sampling, device_fingerprint, measure, run_command

BRIEF = Sampling(seconds=0.01, min_iterations=3)


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_a_measurement_comes_from_a_fresh_process(model_file: Path) -> None:
    first, second = (measure("cpu", model_file, Sampling(seconds=0.02, seed=4), "model") for _ in range(2))
    assert first.output_digests() == second.output_digests()
    assert first.samples_ns != second.samples_ns
    assert first.seed == 4
    assert len(first.samples_ns) >= 20


def test_a_damaged_model_is_named(tmp_path: Path, tflite_file: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(tflite_file.read_bytes()[:500])
    with pytest.raises(DeviceError, match="Flatbuffer") as caught:
        measure("cpu", path, BRIEF, "candidate model.tflite")
    assert caught.value.where == "candidate model.tflite"


def test_a_crash_names_the_signal_and_the_last_words() -> None:
    program = "import os, sys; print('about to', 'fail', file=sys.stderr, flush=True); os.kill(os.getpid(), 11)"
    with pytest.raises(DeviceError, match="killed by SIGSEGV") as caught:
        run_command(python(program), "model", 30)
    assert caught.value.hint == "about to fail"


def test_an_exit_status_is_told_with_the_last_lines_only() -> None:
    program = "import sys; print(*range(100), sep='\\n', file=sys.stderr); sys.exit(9)"
    with pytest.raises(DeviceError, match="exit status 9") as caught:
        run_command(python(program), "model", 30)
    assert caught.value.hint == "95\n96\n97\n98\n99"


@pytest.mark.parametrize("printed", ["", "hello", "[1]", '{"schema_version": 1}', '{"schema_version": 1}{}'])
def test_nonsense_on_stdout_is_no_measurement(printed: str) -> None:
    with pytest.raises(DeviceError, match="no valid measurement"):
        run_command(python(f"print({printed!r})"), "model", 30)


def test_a_hang_ends() -> None:
    with pytest.raises(DeviceError, match=r"within 0\.5 s"):
        run_command(python("import time; time.sleep(60)"), "model", 0.5)


def test_a_program_that_is_not_there_is_a_device_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="could not be started"):
        run_command([str(tmp_path / "nothing")], "model", 1)


def test_an_unknown_target_is_refused(tflite_file: Path) -> None:
    with pytest.raises(RecipeError, match="no target 'toaster'"):
        measure("toaster", tflite_file, BRIEF, "model")
    with pytest.raises(RecipeError, match="no target 'toaster'"):
        device_fingerprint("toaster")


def test_the_fingerprint_is_equal_in_each_process_and_needs_no_numpy() -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from stages.benchmark.stage import BenchmarkConfig, BenchmarkStage\n"
        "print(sorted(BenchmarkStage().device(BenchmarkConfig(), Path(), None).items()))\n"
        "print({'numpy', 'tensorflow', 'onnxruntime', 'ai_edge_litert'} & set(sys.modules))\n"
    )
    done = subprocess.run(python(program), capture_output=True, text=True, check=True, timeout=60)
    here = device_fingerprint("cpu")
    assert done.stdout.splitlines() == [str(sorted((f"cpu.{k}", v) for k, v in here.items())), "set()"]
    assert here.keys() == {"cpu_model", "cores", "machine", "system"}
    assert all(isinstance(value, str) and value for value in here.values())
    assert int(here["cores"]) >= 1
