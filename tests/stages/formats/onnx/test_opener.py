"""Test the file that goes to a board with the runner: what it recognises and what it opens."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from stages.devices import runner
from stages.formats.onnx import opener


def opened(path: Path, *shape: str, as_is: bool = False) -> Any:
    return opener.open_model(str(path), argparse.Namespace(threads=1, shape=list(shape), as_is=as_is), runner)


def test_a_session_computes_what_it_is_fed(onnx_file: Path) -> None:
    session = opened(onnx_file, as_is=True)
    assert (session.inputs, session.output_names) == ([((1, 3, 64, 64), "float32")], ["y"])
    x = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    session.feed([x])
    session.invoke()
    np.testing.assert_array_equal(session.read()[0], 2 * x)


def test_shapes_are_chosen_by_name_and_inputs_that_are_not_there_are_refused(onnx_file: Path) -> None:
    assert opened(onnx_file, "x=5,3,64,64").inputs == [((5, 3, 64, 64), "float32")]
    with pytest.raises(ValueError, match="the inputs are x"):
        opened(onnx_file, "image=5,3,64,64")


def test_the_graph_that_the_runtime_makes_is_given_back(onnx_file: Path) -> None:
    version, graph = opener.optimized(str(onnx_file), argparse.Namespace(threads=1), runner)
    assert version == opened(onnx_file).version
    model = onnx.load_from_string(graph)
    assert [value.name for value in model.graph.output] == ["y"]


def test_files_are_known_by_their_first_bytes(onnx_file: Path, tflite_file: Path) -> None:
    heads = [onnx_file.read_bytes()[:8], tflite_file.read_bytes()[:8], b"", b"PK\x03\x04"]
    assert [opener.recognises(head) for head in heads] == [True, False, False, False]
