"""Check the one dependency rule, and what the command line may import."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {
    "tensorflow",
    "tf_keras",
    "keras",
    "numpy",
    "onnx",
    "onnxruntime",
    "tf2onnx",
    "ai_edge_litert",
    "h5py",
    "openvino",
}

ORDER = ("pipeline", "keras", "samples", "formats", "devices", "verbs", "search", "commands")
"""Rooms from left to right: a module imports only from its own room and from those on its left (DESIGN, section 2)."""

VERBS = {path.parent.name for path in (ROOT / "stages").glob("*/stage.py")}
MADE_FROM = {"c": {"tflite"}, "vela": {"tflite"}, "openvino": {"onnx"}}
"""Formats that are made from files of another format: they alone import another's folder."""

SHARED = {"apart", "calibration", "layers"}
"""Folders under `formats/` that are not a format: what the formats have in common."""


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Return all modules of the two packages by name."""
    found = {}
    for base in ("pipeline", "stages"):
        for path in sorted((root / base).rglob("*.py")):
            found[".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


def imported(source: str, known: Mapping[str, Path]) -> set[str]:
    """Return names of modules in `known` that a source imports, at its top or inside functions, except by
    `import_module`.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in known else str(node.module) for name in full}
    return names & known.keys()


def room(module: str) -> tuple[str, ...]:
    """Return the rooms that a module is in: `(formats, onnx)`, `(verbs, prune)`, `(pipeline,)`; () for
    `stages` itself.
    """
    first, *rest = module.split(".")
    if first == "pipeline":
        return (first,)
    if rest and rest[0] in VERBS:
        return ("verbs", rest[0])
    if rest[:1] == ["formats"] and len(rest) > 1 and (ROOT / "stages" / "formats" / rest[1]).is_dir():
        return ("formats", rest[1]) if rest[1] not in SHARED else ("formats",)
    return tuple(rest[:1])


def is_allowed(importing: str, target: str) -> bool:
    """Return whether the order lets one module import another."""
    here, there = room(importing), room(target)
    if not here or not there or here[:1] == ("pipeline",) == there[:1]:
        return True
    assert here[0] in ORDER, f"{importing} stands in no room"
    assert there[0] in ORDER, f"{target} stands in no room"
    if here[0] != there[0]:
        return ORDER.index(there[0]) < ORDER.index(here[0])
    if here[0] == "verbs":
        return here == there
    if here[0] == "formats" and len(here) == len(there) == 2:
        return here == there or there[1] in MADE_FROM.get(here[1], set())
    return True


def wrong_arrows(sources: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    known = modules()
    for name, source in sources.items():
        for target in imported(source, known):
            if not is_allowed(name, target):
                yield name, target


def test_modules_import_from_their_left_only():
    sources = {name: path.read_text() for name, path in modules().items()}
    assert not list(wrong_arrows(sources))


def test_no_modules_import_each_other_in_a_circle():
    known = modules()
    graph = {name: imported(path.read_text(), known) - {name} for name, path in known.items()}
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names them
    graph["pipeline.errors"] |= {"pipeline.planning.plan"}
    with pytest.raises(CycleError):
        list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("stages.samples.batches", "from stages.prune.config import PruneConfig"),
        ("stages.samples.batches", "def f():\n    from stages.formats import session"),
        ("stages.keras.graph", "import stages.samples.decoding"),
        ("stages.prune.stage", "from stages.verify.config import VerifyConfig"),
        ("stages.export.stage", "from stages.commands.bench import command"),
        ("stages.formats.onnx.convert", "from stages.formats.tflite.convert import convert_tflite"),
        ("stages.formats.tflite.convert", "from stages.formats.c import source"),
        ("pipeline.planning.plan", "from stages.load.config import LoadConfig\nfrom stages.load import stage"),
    ],
)
def test_a_wrong_import_is_seen(where, line):
    assert list(wrong_arrows({where: line}))


def test_formats_import_those_that_they_are_made_from():
    assert not list(wrong_arrows({"stages.formats.vela.convert": "from stages.formats.tflite import convert"}))


@pytest.mark.parametrize("path", sorted((ROOT / "pipeline").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_engine_imports_no_framework(path):
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.partition(".")[0] for name in names} & (HEAVY - {"numpy"} | {"stages"})


def with_public_names() -> list[str]:
    return [name for name, path in modules().items() if path.name == "__init__.py" and "__all__" in path.read_text()]


@pytest.mark.parametrize("package", with_public_names())
def test_public_names_are_there_also_those_that_are_imported_on_first_use(package):
    module = import_module(package)
    assert [name for name in module.__all__ if getattr(module, name, None) is None] == []
    assert not hasattr(module, "of_this_name_there_is_nothing")


def test_few_modules_stand_loose():
    assert not [path.name for path in (ROOT / "stages").glob("*.py") if path.name != "__init__.py"]
    loose = {path.name for path in (ROOT / "pipeline").glob("*.py")}
    assert loose == {"__init__.py", "__main__.py", "errors.py", "start.py"}


def test_entry_points_bring_in_nothing_heavy():
    code = "import sys; from pipeline.contracts.discovery import stages\n"
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
