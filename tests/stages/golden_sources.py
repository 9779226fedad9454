"""Digest what each stage's outputs depend on: its syntax trees without docstrings, with its version.

`python tests/stages/golden_sources.py` writes them again: run it after raising a stage's version, or to state that a
change leaves outputs unchanged.
"""

import ast
import json
from pathlib import Path

from pipeline.contracts.discovery import stages
from pipeline.records.keys import digest_of

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_suffix(".json")
SHARED = ("keras", "samples", "formats", "devices")


def source_digest(paths):
    """Return one digest over modules by name, blind to comments, docstrings and layout."""
    return digest_of("source", {path.relative_to(ROOT).as_posix(): _tree(path) for path in sorted(paths)})


def _tree(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    return ast.dump(tree)


def _is_text(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def current():
    """Return each stage's version and source digest; `shared` is what all stages build on."""
    shared = (path for room in SHARED for path in (ROOT / "stages" / room).rglob("*.py"))
    found = {"shared": {"sources": source_digest(shared)}}
    for name, stage in sorted(stages().items()):
        folder = ROOT / Path(*type(stage).__module__.split(".")[:2])
        found[name] = {"version": stage.version, "sources": source_digest(folder.rglob("*.py"))}
    return found


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(current(), indent=1) + "\n")
