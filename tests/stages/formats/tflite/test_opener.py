"""Test the file that goes to a board with the runner: what it recognises and what it opens."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.devices import runner
from stages.formats.tflite import opener
from stages.formats.tflite.session import load_tflite


def opened(path: Path, *shape: str) -> Any:
    return opener.open_model(str(path), argparse.Namespace(threads=1, shape=list(shape)), runner)


def input_name(path: Path) -> str:
    from ai_edge_litert.interpreter import Interpreter

    return str(Interpreter(model_path=str(path)).get_input_details()[0]["name"])


def test_a_session_computes_what_it_is_fed(tflite_file: Path) -> None:
    session = opened(tflite_file)
    assert session.inputs == [((1, 32, 32, 3), "float32")]
    x = np.random.default_rng(0).standard_normal((1, 32, 32, 3)).astype(np.float32)
    session.feed([x])
    session.invoke()
    (expected,) = load_tflite(tflite_file.read_bytes()).run({"image": x}).values()
    np.testing.assert_allclose(session.read()[0], expected, rtol=1e-5)


def test_other_shapes_are_set_where_the_model_runs_at_them(tflite_file: Path) -> None:
    name = input_name(tflite_file)
    session = opened(tflite_file, f"{name}=4,32,32,3")
    assert session.inputs == [((4, 32, 32, 3), "float32")]
    session.feed([np.zeros((4, 32, 32, 3), np.float32)])
    session.invoke()
    assert session.read()[0].shape == (4, 4)
    with pytest.raises(ValueError, match=r"can't run at .*=1,32,32,5 \(in the file: 1,32,32,3\)"):
        opened(tflite_file, f"{name}=1,32,32,5")
    with pytest.raises(ValueError, match="the inputs are"):
        opened(tflite_file, "nothing=1,32,32,3")


def test_files_are_known_by_their_first_bytes(onnx_file: Path, tflite_file: Path) -> None:
    heads = [onnx_file.read_bytes()[:8], tflite_file.read_bytes()[:8], b""]
    assert [opener.recognises(head) for head in heads] == [False, True, False]
