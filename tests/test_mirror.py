"""Check that tests lie where the module is that they are about: `A/B/c.py` is tested by `tests/A/B/test_c.py`.

What is about several modules at once stands beside the mirror, under `tests/laws/` and `tests/e2e/`.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MIRRORED = ("pipeline", "stages")

OPEN = {
    "stages/finetune/session.py",
    "stages/formats/apart/ending.py",
    "stages/formats/apart/forked.py",
    "stages/formats/apart/main.py",
    "stages/formats/c/source.py",
    "stages/formats/c/tflm.py",
    "stages/formats/conversion.py",
    "stages/formats/layers/agreement.py",
    "stages/formats/metadata.py",
    "stages/formats/onnx/convert.py",
    "stages/formats/onnx/facts.py",
    "stages/formats/onnx/opener.py",
    "stages/formats/onnx/origin.py",
    "stages/formats/onnx/pads.py",
    "stages/formats/onnx/probe_model.py",
    "stages/formats/onnx/session.py",
    "stages/formats/onnx/tensors.py",
    "stages/formats/openvino/export.py",
    "stages/formats/openvino/ir.py",
    "stages/formats/openvino/kernels.py",
    "stages/formats/probe.py",
    "stages/formats/registry.py",
    "stages/formats/tensors.py",
    "stages/formats/tflite/convert.py",
    "stages/formats/tflite/export.py",
    "stages/formats/tflite/opener.py",
    "stages/formats/tflite/probe_model.py",
    "stages/formats/tflite/saved_function.py",
    "stages/formats/tflite/session.py",
    "stages/formats/tflite/tensors.py",
    "stages/formats/vela/accelerator.py",
    "stages/formats/vela/compiler.py",
    "stages/formats/vela/convert.py",
    "stages/keras/accuracy.py",
    "stages/keras/closing.py",
    "stages/keras/flatten.py",
    "stages/keras/graph.py",
    "stages/keras/inputs.py",
    "stages/keras/layer_patterns.py",
    "stages/keras/layer_work.py",
    "stages/keras/serving.py",
    "stages/keras/tensorflow.py",
    "stages/keras/wrappers.py",
    "stages/load/applications.py",
    "stages/load/compositions.py",
    "stages/load/custom_objects.py",
    "stages/load/keras3_graph.py",
    "stages/load/keras3_layers.py",
    "stages/load/keras3_masks.py",
    "stages/load/keras3_operations.py",
    "stages/load/keras3_traced.py",
    "stages/load/keras3_translation.py",
    "stages/load/not_finite.py",
    "stages/load/notes.py",
    "stages/load/slices.py",
    "stages/load/stored.py",
    "stages/load/traced.py",
    "stages/load/unwrapping.py",
    "stages/prune/analysis/labels.py",
    "stages/prune/analysis/rules/activations.py",
    "stages/prune/analysis/rules/table.py",
    "stages/prune/choosing/counts.py",
    "stages/prune/config.py",
    "stages/prune/inspection.py",
    "stages/prune/measured/device.py",
    "stages/prune/ranking/criteria/activations.py",
    "stages/prune/ranking/criteria/gradients.py",
    "stages/prune/ranking/criteria/reduction.py",
    "stages/prune/ranking/criteria/weights.py",
    "stages/prune/ranking/families.py",
    "stages/prune/report.py",
    "stages/prune/sensitivity/stage.py",
    "stages/prune/surgery/edits.py",
    "stages/prune/surgery/rebuild.py",
    "stages/recalibrate/stage.py",
    "stages/recalibrate/statistics.py",
    "stages/strip/usage.py",
    "tests/stages/finetune/test_kills.py",
    "tests/stages/finetune/test_outputs.py",
    "tests/stages/formats/test_pairs.py",
    "tests/stages/formats/test_recognise.py",
    "tests/stages/load/test_wrapped.py",
    "tests/stages/prune/test_any_network.py",
    "tests/stages/prune/test_criteria.py",
    "tests/stages/prune/test_flatten.py",
    "tests/stages/recalibrate/test_recalibrate.py",
    "tests/stages/test_looking.py",
    "tests/stages/test_versions.py",
}
"""Modules without their test file, and test files without their module, that are known and still to come."""


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
    wrong = untested(ROOT) | astray(ROOT)
    assert sorted(wrong - OPEN) == []
    assert sorted(OPEN - wrong) == [], "done: take these out of OPEN"


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
