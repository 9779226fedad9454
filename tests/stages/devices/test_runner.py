"""Test the device runner as a process, which is how it is used; and its few pure functions."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.devices import runner
from stages.devices.runner_file import runner_file
from stages.formats.tflite.opener import MODULES as LITERT_MODULES

RUNNER = runner_file()
BRIEF = ("--seconds", "0.01", "--min-iterations", "3")


def run(*arguments: object, env: dict[str, str] | None = None) -> tuple[dict[str, Any], int, str]:
    """Return the document, the exit status and stderr of one run."""
    command = [sys.executable, str(RUNNER), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=60)
    return json.loads(done.stdout), done.returncode, done.stderr


def test_prints_one_document_with_every_sample(model_file: Path) -> None:
    document, status, _ = run(model_file, "--seconds", "0.05", "--threads", "1", "--seed", "3")
    assert status == 0
    assert document["schema_version"] == 1
    assert document["runtime"] == {"tflite": "litert", "onnx": "onnxruntime"}[model_file.name]
    assert document["runtime_version"][0].isdigit()
    samples = document["samples_ns"]
    assert len(samples) >= 20
    assert min(samples) > 0
    assert 0.05e9 <= sum(samples) < 0.05e9 + max(samples)
    assert document["threads"] == 1
    assert document["seed"] == 3
    assert document["load_ms"] > 0
    assert document["first_inference_ms"] > 0
    assert document["warmup_calls"] >= 10
    assert document["cpu_model"] == runner.cpu_model()
    assert document["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert document["machine"]


def test_seconds_of_zero_leave_the_least_number_of_samples(onnx_file: Path) -> None:
    document, _, _ = run(onnx_file, "--seconds", "0", "--min-iterations", "7")
    assert len(document["samples_ns"]) == 7


def test_outputs_are_those_of_the_seeded_inputs(onnx_file: Path) -> None:
    document, _, _ = run(onnx_file, *BRIEF, "--seed", "5", "--outputs")
    (output,) = document["outputs"]
    (x,) = runner.seeded_inputs([((1, 3, 64, 64), "float32")], 5)
    y = np.frombuffer(base64.b64decode(output["base64"]), output["dtype"]).reshape(output["shape"])
    np.testing.assert_array_equal(y, 2 * x)


def test_output_digests_follow_the_seed_alone(model_file: Path) -> None:
    digests = [run(model_file, *BRIEF, "--seed", seed)[0]["outputs"][0]["sha256"] for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]
    assert "base64" not in run(model_file, *BRIEF)[0]["outputs"][0]


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "missing", "folder"])
def test_an_unreadable_model_is_one_document_too(damage: str, tflite_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "model"
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        whole = tflite_file.read_bytes()
        path.write_bytes({"cut": whole[: len(whole) // 2], "garbage": b"\x81no model" * 50, "empty": b""}[damage])
    document, status, stderr = run(path)
    assert status == 1
    assert document.keys() == {"schema_version", "error"}
    assert len(document["error"]) > 10
    assert "Traceback" not in stderr


def test_the_runtime_can_be_named(tflite_file: Path) -> None:
    document, status, _ = run(tflite_file, "--runtime", "onnxruntime")
    assert status == 1
    assert "ONNXRuntimeError" in document["error"]


def test_a_copy_alone_in_a_folder_imports_nothing_of_ours(model_file: Path, tmp_path: Path) -> None:
    copy = shutil.copy(RUNNER, tmp_path / "runner.py")
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['runner.py', {str(model_file)!r}, '--seconds', '0.01']\n"
        "try:\n"
        f"    runpy.run_path({str(copy)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print(end.code, *sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, timeout=60)
    status, *modules = done.stderr.splitlines()[-1].split()
    assert status == "0"
    assert json.loads(done.stdout)["samples_ns"]
    assert "numpy" in modules
    assert not {"tensorflow", "tf_keras", "keras", "pipeline", "stages", "pydantic"} & set(modules)


def test_what_a_runtime_prints_stays_off_stdout_and_telemetry_is_off(onnx_file: Path, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text(
        "import os, statistics\n"
        "os.write(1, b'a banner')\n"
        "raise RuntimeError(os.environ['ORT_DISABLE_TELEMETRY'] + ' ' + statistics.__file__)\n"
    )
    document, status, stderr = run(onnx_file, env={"PYTHONPATH": str(tmp_path)})
    assert status == 1
    assert "a banner" in stderr
    assert document["error"].startswith("RuntimeError: 1 ")
    assert str(RUNNER.parent) not in document["error"]  # not our `statistics`


def test_a_missing_runtime_is_named(tflite_file: Path, tmp_path: Path) -> None:
    for name in LITERT_MODULES:
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('no {name}')")
    document, status, _ = run(tflite_file, env={"PYTHONPATH": str(tmp_path)})
    assert status == 1
    assert "ai_edge_litert, tflite_runtime" in document["error"]


def test_peak_memory_is_the_childs_own(tflite_file: Path) -> None:
    """`ru_maxrss` would report what the parent held when it started the child."""
    ballast = np.ones(400_000_000, np.uint8)
    document, _, _ = run(tflite_file, *BRIEF)
    assert 10_000_000 < document["peak_memory_bytes"] < ballast.nbytes * 0.75


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("int8", -128, 127), ("uint8", 0, 255), ("int16", -(2**15), 2**15 - 1), ("int64", 0, 1), ("bool", 0, 1)],
)
def test_integer_inputs_use_their_range(dtype: str, low: int, high: int) -> None:
    (drawn,) = runner.seeded_inputs([((1, 1_000_000), dtype)], 0)
    assert drawn.dtype == dtype
    assert (drawn.min(), drawn.max()) == (low, high)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_float_inputs_lie_between_minus_one_and_one(dtype: str) -> None:
    (drawn,) = runner.seeded_inputs([((100, 100), dtype)], 0)
    assert drawn.dtype == dtype
    assert -1 <= drawn.min() < -0.99
    assert 0.99 < drawn.max() <= 1
    assert abs(drawn.mean()) < 0.05


def test_inputs_of_strings_are_refused() -> None:
    with pytest.raises(ValueError, match="can't be drawn"):
        runner.seeded_inputs([((1,), "str")], 0)


def test_warm_up_goes_on_until_times_are_steady() -> None:
    falling = chain([0.05, 0.02], repeat(0.01))
    calls, steady = runner.warm_up(lambda: time.sleep(next(falling)), 1, 30.0)
    assert steady
    assert calls >= 4


def test_warm_up_ends_at_its_limit() -> None:
    falling = iter([0.02, 0.001])
    assert runner.warm_up(lambda: time.sleep(next(falling)), 1, 0.0) == (2, False)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "processor\t: 0\nmodel name\t: A Chip @ 2.0GHz\nprocessor\t: 1\nmodel name\t: A Chip @ 2.0GHz\n",
            "A Chip @ 2.0GHz",
        ),
        ("processor : 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n", "0x41/0xd08"),
        (
            "CPU implementer : 0x41\nCPU part : 0xd05\n\n" * 2 + "CPU implementer : 0x41\nCPU part : 0xd0a\n",
            "0x41/0xd05 + 0x41/0xd0a",
        ),
        ("", ""),
    ],
)
def test_processors_are_named_from_cpuinfo(text: str, name: str) -> None:
    assert runner.parse_cpuinfo(text) == name


def test_it_stays_on_the_processors_that_are_named(onnx_file: Path) -> None:
    first = min(os.sched_getaffinity(0))
    document, status, _ = run(onnx_file, *BRIEF, "--affinity", first)
    assert (status, document["affinity"]) == (0, [first])
    document, status, _ = run(onnx_file, *BRIEF, "--affinity", 4000)
    assert status == 1
    assert "error" in document


def test_sustained_gives_throughput_in_equal_parts(onnx_file: Path) -> None:
    document, _, _ = run(onnx_file, *BRIEF, "--sustained", 0.005)
    rates, median_ns = document["throughput_per_s"], sorted(document["samples_ns"])[1]
    assert len(rates) == runner.SUSTAINED_PARTS
    assert 0.1 < sorted(rates)[30] * median_ns / 1e9 < 10


def test_free_sizes_are_asked_for_and_taken(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", "T", 4)) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "free", values[:1], values[1:])
    path = tmp_path / "free"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    document, status, _ = run(path, *BRIEF)
    assert status == 1
    assert "--shape x=" in document["error"]
    document, _, _ = run(path, *BRIEF, "--shape", "x=1,7,4")
    assert document["outputs"][0]["shape"] == [1, 7, 4]


def test_a_shape_of_no_input_or_that_the_model_can_not_have_is_told(model_file: Path, tflite_file: Path) -> None:
    document, status, _ = run(model_file, *BRIEF, "--shape", "nothing=1,2,3")
    assert status == 1
    assert "--shape nothing=1,2,3: the inputs are " in document["error"]
    document, status, _ = run(tflite_file, *BRIEF, "--shape", "2,3")
    assert status == 1
    assert "the model can't run at " in document["error"]
    assert "=2,3 (in the file: " in document["error"]


def test_inputs_can_be_given(onnx_file: Path, tmp_path: Path) -> None:
    x = np.full((1, 3, 64, 64), 1.5, np.float32)
    np.savez(tmp_path / "inputs.npz", x)
    document, _, _ = run(onnx_file, *BRIEF, "--inputs", tmp_path / "inputs.npz", "--outputs")
    y = np.frombuffer(base64.b64decode(document["outputs"][0]["base64"]), np.float32)
    np.testing.assert_array_equal(y, 2 * x.ravel())


def test_a_probe_tells_what_there_is() -> None:
    document, status, _ = run("--probe")
    assert status == 0
    assert all(document[name] for name in ("numpy", "litert", "onnxruntime", "cpu_model", "machine", "disk_free_bytes"))


def test_marks_do_nothing_on_a_real_system(model_file: Path) -> None:
    document, status, _ = run(model_file, "--count", 2)
    assert status == 0
    assert "samples_ns" not in document
    assert document["outputs"] == run(model_file, *BRIEF)[0]["outputs"]


def test_throttling_and_a_jumping_clock_are_noted() -> None:
    cool, hot = {"frequency_khz": 1_500_000}, {"frequency_khz": 600_000}
    assert runner.device_notes(cool, cool, 0.1) == []
    assert runner.device_notes(cool, hot, 0.0) == ["the processor went from 1500 to 600 MHz: it was throttled"]
    assert runner.device_notes({"frequency_khz": None}, hot, 3600.0) == ["the device's clock jumped by 3600.0 s"]


def test_threads_that_wait_for_each_other_are_noted() -> None:
    here = len(os.sched_getaffinity(0))
    assert runner.thread_notes(here) == []
    assert runner.thread_notes(here + 1) == [f"{here + 1} threads share {here} processors"]


def test_a_series_times_each_model_of_an_archive(onnx_file: Path, tmp_path: Path) -> None:
    archive = tmp_path / "models.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for name in ("a", "b", "c"):
            made.write(onnx_file, name)
    document, status, _ = run(archive, "--series", *BRIEF)
    assert status == 0
    assert document["runtime"] == "onnxruntime"
    assert len(document["medians_ns"]) == 3
    assert all(median > 0 for median in document["medians_ns"])


def test_the_graph_that_is_run_can_be_had_and_runs_as_it_is(onnx_file: Path, tflite_file: Path, tmp_path: Path) -> None:
    document, status, _ = run(onnx_file, "--optimized")
    assert (status, document["runtime"]) == (0, "onnxruntime")
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(base64.b64decode(document["optimized"]))
    whole, again = run(onnx_file, *BRIEF)[0], run(graph, "--as-is", *BRIEF)[0]
    assert whole["outputs"] == again["outputs"]
    document, status, _ = run(tflite_file, "--optimized")
    assert status == 1
    assert "error" in document


def test_a_series_with_a_damaged_model_is_an_error(onnx_file: Path, tmp_path: Path) -> None:
    archive = tmp_path / "models.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.write(onnx_file, "a")
        made.writestr("b", onnx_file.read_bytes()[:40])
    document, status, _ = run(archive, "--series", *BRIEF)
    assert status == 1
    assert "error" in document
