"""Test the commands as a user runs them: exit codes, forms, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import build_app
from pipeline.errors import ModelError, RecipeError
from stages.commands.bench import head_of
from stages.commands.comparing.result import ComparisonReport
from stages.devices.target import find_target
from stages.formats.probe import Probe
from stages.formats.tflite.probe_model import tflite_model

APP = build_app(["compare", "bench", "history"])
BRIEF = ("--rounds", "2", "--seconds", "0.005")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Make two ONNX files, the second with fifty times the work of the first."""
    import onnx
    from onnx import TensorProto, helper

    folder = tmp_path_factory.mktemp("files")
    for name, steps in (("few.onnx", 4), ("many.onnx", 200)):
        names = [f"x{step}" for step in range(steps + 1)]
        nodes = [helper.make_node("Sin", [a], [b]) for a, b in pairwise(names)]
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 4096)) for n in (names[0], names[-1])]
        graph = helper.make_graph(nodes, "sines", ends[:1], ends[1:])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / name)
    return folder / "few.onnx", folder / "many.onnx"


def run(*arguments, code=0):
    result = CliRunner().invoke(APP, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def test_the_exit_code_is_the_verdict(files, tmp_path):
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


def test_each_form_is_what_it_is_called(files, tmp_path, monkeypatch):
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
        (("--shape", "x=1,?,3"), "'x=1,?,3' is no shape"),
        (("--shape", "1,-1"), "'1,-1' is no shape"),
        (("--metric", "speed"), "there is no metric 'speed'"),
        (("--format", "html"), "there is no format 'html'"),
        (("--target", "cortex-a77"), "there is no target 'cortex-a77'"),
        (("--data", "none.yaml"), "the recipe is not there"),
        (("--recipe", "none.yaml"), "the recipe is not there"),
    ],
)
def test_options_that_can_not_be_meant_are_usage_errors(files, arguments, what):
    with pytest.raises(RecipeError) as caught:
        run("compare", *files, *BRIEF, *arguments)
    assert caught.value.what == what
    assert caught.value.exit_code == 2


def test_what_is_not_there_comes_with_the_nearest_names(files, tmp_path):
    few, _ = files
    with pytest.raises(RecipeError, match="is no file, no run and no artifact") as caught:
        run("compare", few, few.with_name("fev.onnx"), "--store", tmp_path / "store")
    assert str(few) in caught.value.hint
    with pytest.raises(RecipeError, match="is no file, no run and no artifact") as caught:
        run("compare", "latest", few, "--store", tmp_path / "store")
    assert caught.value.hint == f"secateur store ls --store {tmp_path / 'store'}   lists runs and artifacts"
    with pytest.raises(RecipeError, match="a folder is no model"):
        run("compare", few, tmp_path)


def test_bench_says_what_makes_its_times_doubtful(files):
    result = run("bench", files[0], "--rounds", "1", "--seconds", "0.005", "--threads", "64")
    assert f"! bench: 64 threads share {len(os.sched_getaffinity(0))} processors" in result.stderr
    assert "threads share" not in result.stdout


def test_bench_measures_appends_and_history_draws(files, tmp_path):
    history = tmp_path / "h.jsonl"
    few, many = files
    shown = run("bench", few, many, *BRIEF, "--append", history).stdout
    assert "few.onnx" in shown
    assert "2 rounds" in shown
    document = json.loads(run("bench", few, *BRIEF, "--append", history, "--json").stdout)
    (entry,) = document["entries"]
    metrics = entry["metrics"]
    assert 0 < metrics["latency_p50_low_ms"] <= metrics["latency_p50_high_ms"]
    assert metrics["latency_p50_ms"] <= metrics["latency_p90_ms"]
    assert metrics["size_bytes"] == few.stat().st_size
    with history.open("a") as file:
        file.write('{"cut off')
    result = run("history", history)
    assert f"! {history}:4: no entry of a history" in result.stderr
    assert len([line for line in result.stdout.splitlines() if line.startswith("20")]) == 3
    items = json.loads(run("history", history, "--format", "github-action-benchmark", "--metric", "size_bytes").stdout)
    assert [item["value"] for item in items] == [few.stat().st_size, many.stat().st_size]
    run("history", history, "--format", "svg", "-o", tmp_path / "h.svg")
    assert (tmp_path / "h.svg").read_text().startswith("<svg")


def test_a_history_that_can_not_be_is_refused_before_anything_is_measured(files, tmp_path):
    few, _ = files
    for place in (tmp_path / "no" / "h.jsonl", few):
        with pytest.raises(RecipeError):
            run("bench", few, *BRIEF, "--append", place)
    run("bench", few, *BRIEF, "--append", tmp_path / "h.jsonl")
    with pytest.raises(RecipeError, match="no entry has a metric"):
        run("history", tmp_path / "h.jsonl", "--metric", "latency")


def test_all_runtimes_are_named_and_one_round_has_no_interval(files, tmp_path):
    tflite = tmp_path / "model.tflite"
    tflite.write_bytes(tflite_model(Probe(kind="dense", inputs=8, outputs=8), "float32"))
    shown = run("bench", files[0], tflite, "--rounds", "1", "--seconds", "0.005").stdout
    foot = shown.splitlines()[-1]
    assert "onnxruntime" in foot
    assert "litert" in foot
    assert foot.endswith(", 1 round")
    assert "[" not in shown


def test_a_model_with_its_data_beside_it_is_measured_and_named_whole(make_external, tmp_path):
    model = make_external()
    data = model.with_name("model.onnx.data")
    (entry,) = json.loads(run("bench", model, "--rounds", "1", "--seconds", "0.005", "--json").stdout)["entries"]
    assert entry["metrics"]["size_bytes"] == model.stat().st_size + data.stat().st_size
    other = tmp_path / "other" / "model.onnx"
    other.parent.mkdir()
    other.write_bytes(model.read_bytes())
    with pytest.raises(ModelError, match=r"the model's data, model\.onnx\.data, is missing"):
        run("compare", model, other, *BRIEF)
    other.with_name(data.name).write_bytes(bytes(data.stat().st_size))
    report = json.loads(run("compare", model, other, *BRIEF, "--metric", "size", "--json").stdout)
    digests = [report["pairs"][0][side]["digest"] for side in ("baseline", "candidate")]
    assert entry["digest"] == digests[0] != digests[1]


def test_a_model_that_takes_data_from_elsewhere_is_refused(make_external):
    with pytest.raises(
        ModelError, match=r"the graph takes data from '\.\./secret', which is no file of its own folder"
    ):
        run("bench", make_external("../secret"))


def test_the_columns_of_counts_have_names_of_their_own():
    target = find_target("cortex-a72")
    heads = [head_of(metric.name) for metric in target.metrics]
    assert len(set(heads)) == len(heads)
    assert "instructions_load_store" in heads
    assert [head_of(metric) for metric in ("latency_p50_ms", "size_bytes")] == ["p50", "size"]


def test_two_files_of_one_name_keep_apart(files, tmp_path):
    few, _ = files
    (tmp_path / "few.onnx").write_bytes(few.read_bytes())
    both = (few, tmp_path / "few.onnx")
    document = json.loads(run("bench", *both, "--rounds", "1", "--seconds", "0.005", "--json").stdout)
    assert [Path(entry["name"]) for entry in document["entries"]] == [*both]


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
