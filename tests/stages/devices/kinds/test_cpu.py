"""Check what tells this machine from others."""

from __future__ import annotations

import subprocess
import sys

from stages.devices.target import device_fingerprint


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


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
