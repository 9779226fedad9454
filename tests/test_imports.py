"""The one dependency rule, and what the command line may import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"tensorflow", "tf_keras", "keras", "numpy", "onnx", "onnxruntime", "tf2onnx", "ai_edge_litert", "h5py"}
STAGES = sorted(path.parent.name for path in (ROOT / "stages").glob("*/stage.py"))


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
            assert node.level == 0, f"{path}: imports are absolute here"
    return names


@pytest.mark.parametrize("path", sorted((ROOT / "pipeline").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_engine_imports_no_stage_and_no_framework(path):
    roots = {name.partition(".")[0] for name in imported(path)}
    assert not roots & ({"stages"} | HEAVY - {"numpy"})


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_imports_another(stage):
    others = {f"stages.{name}" for name in (*STAGES, "commands") if name != stage}
    for path in (ROOT / "stages" / stage).rglob("*.py"):
        for name in imported(path):
            assert not any(name == other or name.startswith(f"{other}.") for other in others), f"{path}: {name}"


def test_entry_points_bring_in_nothing_heavy():
    code = "import sys; from pipeline.discovery import stages\n"
    code += f"print(sorted(stages()), {HEAVY!r} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip().endswith("set()")
    assert "'load'" in run.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["version"],
        ["schema"],
        ["doctor"],
        ["store", "ls"],
        ["plan"],
        ["show", "x"],
        ["compare", "--help"],
        ["bench", "--help"],
        ["history", "--help"],
    ],
)
def test_commands_that_only_look_import_nothing_heavy(arguments, tmp_path):
    if arguments == ["plan"]:
        arguments = ["plan", str(ROOT / "configs" / "demo.yaml")]
    code = (
        "import sys; from pipeline.start import main\n"
        "try: main()\n"
        f"except SystemExit as stop: print('HEAVY', stop.code, sorted({HEAVY!r} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, *arguments]
    environment = {"SECATEUR_STORE": str(tmp_path / "store"), "PATH": "", "HOME": str(tmp_path)}
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    code = 2 if arguments[0] == "show" else 0  # that run does not exist
    assert run.stdout.strip().endswith(f"HEAVY {code} []"), run.stdout + run.stderr
    assert not (tmp_path / "store").exists()
