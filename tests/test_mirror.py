"""Check that tests lie where the module is that they are about: `A/B/c.py` is tested by `tests/A/B/test_c.py`.

What is about several modules at once stands beside the mirror, under `tests/laws/`, `tests/faults/` and `tests/e2e/`.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MIRRORED = ("pipeline", "stages")


def does_something(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a function does more than to state a literal, `self` or a field of it."""
    body = [node for node in function.body if not isinstance(node, ast.Pass)]
    body = [node for node in body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    match body:
        case []:
            return False
        case [ast.Return(value=value)]:
            return not is_stated(value)
    return True


def is_stated(value: ast.expr | None) -> bool:
    """Return whether a value is written down as it is: a literal, `self`, or a field of one of its fields."""
    while isinstance(value, ast.Attribute):
        value = value.value
    if value is None or (isinstance(value, ast.Name) and value.id in ("self", "cls")):
        return True
    try:
        ast.literal_eval(value)
    except ValueError:
        return False
    return True


def has_logic(source: str) -> bool:
    """Return whether a module holds more than declarations: types, fields, Protocols, constants."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(isinstance(node, functions) and does_something(node) for node in ast.walk(ast.parse(source)))


def untested(root: Path) -> set[str]:
    """Return the modules with logic that have no test file of their name, with a test in it, at their place."""
    modules = (path.relative_to(root) for base in MIRRORED for path in (root / base).rglob("*.py"))
    named = (path for path in modules if path.name not in ("__init__.py", "__main__.py"))
    tests = {path: root / "tests" / path.with_name(f"test_{path.name}") for path in named}
    missing = [path for path, test in tests.items() if not test.exists() or "def test_" not in test.read_text()]
    return {path.as_posix() for path in missing if has_logic((root / path).read_text())}


def astray(root: Path) -> set[str]:
    """Return the test files at whose place there is no module of their name; a package's lies beside its folder."""
    files = (path for base in MIRRORED for path in (root / "tests" / base).rglob("test_*.py"))
    names = {path: path.relative_to(root / "tests").with_name(path.stem.removeprefix("test_")) for path in files}
    modules = {path: (root / f"{name}.py", root / name / "__init__.py") for path, name in names.items()}
    return {path.relative_to(root).as_posix() for path, either in modules.items() if not any(map(Path.exists, either))}


def test_every_module_with_logic_has_its_test_file_and_every_test_file_its_module():
    assert sorted(untested(ROOT)) == []
    assert sorted(astray(ROOT)) == []


@pytest.mark.parametrize(
    ("source", "logic"),
    [
        ("from typing import Protocol\n\nclass A(Protocol):\n    def f(self) -> int:\n        '''Count.'''", False),
        ("class A:\n    kind: int = 3\n    def f(self):\n        ...\n    def g(self):\n        return ()", False),
        ("class A:\n    @property\n    def f(self):\n        '''Tell.'''\n        return self.settings.name", False),
        ("class A:\n    def f(self):\n        return self", False),
        ("KEYS = sorted({'a', 'b'})\n", False),
        ("def f():\n    return -1", False),
        ("def f(x):\n    return x", True),
        ("def f(x):\n    x.clear()", True),
        ("class A:\n    def f(self):\n        return self.name.upper()", True),
        ("class A:\n    def f(self):\n        '''Count.'''\n        self.n += 1\n        return 0", True),
        ("async def f():\n    raise ValueError", True),
    ],
)
def test_declarations_need_no_test(source, logic):
    assert has_logic(source) is logic


def test_what_is_missing_and_what_is_astray_is_seen(tmp_path):
    for name in ("stages/a/__init__.py", "stages/a/b.py", "stages/a/c.py", "stages/a/d.py", "tests/stages/a/test_b.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("def test_it(x):\n    return x + 1\n")
    (tmp_path / "tests/stages/a/test_c.py").touch()
    assert untested(tmp_path) == {"stages/a/c.py", "stages/a/d.py"}
    (tmp_path / "tests/stages/test_a.py").touch()
    assert astray(tmp_path) == set()
    for name in ("tests/stages/a/test_a.py", "tests/stages/test_b.py"):
        (tmp_path / name).touch()
    assert astray(tmp_path) == {"tests/stages/a/test_a.py", "tests/stages/test_b.py"}
