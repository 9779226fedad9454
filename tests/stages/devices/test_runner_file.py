"""Check the file that goes to a device: where it runs, and that its bytes follow from its sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from stages.devices.runner_file import CORE, opener_sources, packed, runner_file

RUNNER = runner_file()
ALLOWED_IMPORTS = {"numpy"}


@pytest.mark.parametrize("source", [CORE.read_text(encoding="utf-8"), *opener_sources().values()])
def test_is_python_3_9_and_imports_only_the_standard_library_and_numpy(source: str) -> None:
    tree = ast.parse(source, feature_version=(3, 9))
    checked = (
        node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    never = {id(inner) for node in checked for part in node.body for inner in ast.walk(part)}
    run = [node for node in ast.walk(tree) if id(node) not in never]
    imported = {alias.name for node in run if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in run if isinstance(node, ast.ImportFrom)}
    roots = {name.partition(".")[0] for name in imported}
    assert roots - set(sys.stdlib_module_names) <= ALLOWED_IMPORTS
    # Annotations may be newer, since they are never evaluated; these two would be syntax or calls of 3.10.
    assert not any(isinstance(node, ast.Match) for node in ast.walk(tree))
    assert not any(isinstance(node, ast.keyword) and node.arg == "strict" for node in ast.walk(tree))


def test_equal_sources_give_equal_bytes_also_as_a_script(tmp_path: Path) -> None:
    openers = opener_sources()
    assert packed(openers) == RUNNER.read_bytes()
    files = [tmp_path / f"{name}.py" for name in openers]
    for file, source in zip(files, openers.values(), strict=True):
        file.write_text(source, encoding="utf-8")
    script = CORE.with_name("runner_file.py")
    subprocess.run([sys.executable, "-I", "-S", script, tmp_path / "made", *files], check=True, timeout=60)
    assert (tmp_path / "made").read_bytes() == RUNNER.read_bytes()
