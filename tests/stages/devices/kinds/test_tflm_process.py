"""Run the process that hosts the interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(find_spec("tflite_micro") is None, reason="pip install tflite-micro")


def run(model: Path) -> tuple[int, Any]:
    command = [sys.executable, "-m", "stages.devices.kinds.tflm_process", str(model)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    return done.returncode, json.loads(done.stdout)


def test_one_document_holds_the_arena_and_the_outputs_of_seeded_inputs(fixed_batch_file: Path) -> None:
    status, document = run(fixed_batch_file)
    assert status == 0
    assert document["arena"]["total"] == document["arena"]["head"] + document["arena"]["tail"] > 0
    (output,) = document["outputs"]
    assert (output["shape"], output["dtype"]) == ([1, 4], "float32")
    assert run(fixed_batch_file) == (0, document)


def test_a_file_that_is_no_model_is_one_document_too(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"no model")
    status, document = run(tmp_path / "model")
    assert status == 1
    assert document.keys() >= {"error"}
