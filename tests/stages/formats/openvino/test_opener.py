"""The file that goes to a board with the runner: what it recognises, what it opens, what it imports."""

from __future__ import annotations

import argparse
import ast
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.devices import runner
from stages.formats.openvino import opener
from stages.formats.registry import formats


def opened(path: Path, *shape: str) -> Any:
    return opener.open_model(str(path), argparse.Namespace(threads=1, shape=list(shape)), runner)


def test_a_session_computes_what_it_is_fed(
    path_of: Callable[[str], Path], tiny_xception: Any, tiny_images: Any
) -> None:
    session = opened(path_of("openvino/float32"))
    assert (session.inputs, session.output_names, session.delegates) == (
        [((1, 12, 12, 2), "float32")],
        ["head"],
        ["CPU"],
    )
    assert session.version == "2026.4.1"
    expected = np.asarray(tiny_xception(tiny_images, training=False))
    before = []
    for place in (0, 5):
        session.feed([tiny_images[place : place + 1]])
        session.invoke()
        (found,) = session.read()
        np.testing.assert_allclose(found, expected[place : place + 1], atol=1e-5)
        before.append(found)
    assert not np.array_equal(*before)  # what was read stays as it was


def test_shapes_are_chosen_by_name_and_those_that_can_t_be_are_said(path_of: Callable[[str], Path]) -> None:
    path = path_of("openvino/float32")
    session = opened(path, "image=3,12,12,2")
    assert session.inputs == [((3, 12, 12, 2), "float32")]
    session.feed([np.zeros((3, 12, 12, 2), np.float32)])
    session.invoke()
    assert session.read()[0].shape == (3, 4)
    with pytest.raises(ValueError, match="--shape other=1,2"):
        opened(path, "other=1,2")
    with pytest.raises(ValueError, match="the model can't run at"):
        opened(path, "image=1,12,12,5")


def test_the_file_stands_alone_and_older_pythons_read_it() -> None:
    tree = ast.parse(Path(str(opener.__file__)).read_text(), feature_version=(3, 9))
    names = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert names <= {"__future__", "argparse", "re", "sys", "time", "typing"}
    assert importlib.import_module(formats()["openvino"].opener) is opener
    assert opener.recognises(b'<?xml version="1.0"?>\n<net name="x" version="11">')
    assert not opener.recognises(b"\x1c\x00\x00\x00TFL3")


def test_telemetry_is_never_loaded(tmp_path: Path, path_of: Callable[[str], Path]) -> None:
    """Not where the package is there, which openvino imports and speaks to as soon as it is imported itself."""
    package = tmp_path / "openvino_telemetry"
    package.mkdir()
    (package / "__init__.py").write_text(f"open({str(tmp_path / 'called')!r}, 'w').close()\nraise SystemExit(3)\n")
    code = "import sys; from pathlib import Path; from stages.formats.openvino.session import load_openvino\n"
    code += "load_openvino(Path(sys.argv[1])); print('loaded')"
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path_of("openvino/float32"))],
        check=False, env=environment, cwd=Path(__file__).parents[4], capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == "loaded", done.stderr
    assert not (tmp_path / "called").exists()
