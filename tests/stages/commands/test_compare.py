"""Test `secateur compare` as a user runs it: exit codes, forms, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from pipeline.cli import build_app
from pipeline.errors import RecipeError
from stages.commands.comparing.result import ComparisonReport

APP = build_app(["compare", "bench", "history"])
BRIEF = ("--rounds", "2", "--seconds", "0.005")


def test_the_exit_code_is_the_verdict(files, tmp_path, run):
    few, many = files
    store = ("--store", tmp_path / "store")
    result = run("compare", few, many, *BRIEF, "--metric", "latency", "--json", *store, code=1)
    report = ComparisonReport.model_validate_json(result.stdout)
    assert report.verdict == "regression"
    assert report.pairs[0].metrics[0].change > 3
    assert run("compare", many, few, "--metric", "size", *store).stdout.startswith("ok  ")
    # Two rounds of a file against itself may by chance both be slower, once in four times: not six times in a row.
    strict = ("compare", few, few, *BRIEF, "--metric", "latency", "--tolerance", "0%", *store)
    tries = (CliRunner().invoke(APP, list(map(str, strict))) for _ in range(6))
    never = next(one for one in tries if one.exit_code != 1)
    assert never.exit_code == 5
    assert never.stdout.startswith("inconclusive  ")
    assert not (tmp_path / "store").exists()  # files need none


def test_each_form_is_what_it_is_called(files, tmp_path, monkeypatch, run):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.chdir(tmp_path)
    few, many = files
    size = ("--metric", "size")
    assert run("compare", few, many, *size, "--format", "markdown", code=1).stdout.startswith("### REGRESSION")
    assert run("compare", few, many, *size, "--format", "junit", code=1).stdout.startswith("<?xml")
    annotated = run("compare", few, many, *size, "--format", "github", code=1).stdout
    assert annotated.startswith("::error title=regression%3A size of many.onnx::")
    assert (tmp_path / "summary.md").read_text().startswith("### REGRESSION")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--tolerance", "-1%"), "a tolerance can't be -1%"),
        (("--shape", "x=1,?,3"), "'x=1,?,3' is not a shape"),
        (("--shape", "1,-1"), "'1,-1' is not a shape"),
        (("--metric", "speed"), "there is no metric 'speed'"),
        (("--format", "html"), "there is no format 'html'"),
        (("--target", "cortex-a77"), "there is no target 'cortex-a77'"),
        (("--data", "none.yaml"), "the recipe is not there"),
        (("--recipe", "none.yaml"), "the recipe is not there"),
    ],
)
def test_options_that_can_not_be_meant_are_usage_errors(files, arguments, what, run):
    with pytest.raises(RecipeError) as caught:
        run("compare", *files, *BRIEF, *arguments)
    assert caught.value.what == what
    assert caught.value.exit_code == 2


def test_comparing_files_imports_neither_tensorflow_nor_a_runtime(files):
    """Runtimes run in the device runner's process; comparing latency needs numpy, comparing sizes not even that."""
    code = (
        "import sys; from pipeline.start import main\n"
        "try: main()\n"
        "except SystemExit as stop: print('HEAVY', stop.code, sorted({'tensorflow', 'tf_keras', 'onnx', 'onnxruntime', "
        "'ai_edge_litert', 'scipy', 'numpy'} & sys.modules.keys()))"
    )
    for metric, options, expected in (("size", (), []), ("latency", BRIEF, ["numpy"])):
        command = [sys.executable, "-c", code, "compare", *map(str, files), "--metric", metric, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == f"HEAVY 1 {expected}", done.stderr
