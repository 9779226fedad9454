import os
from pathlib import Path

import pytest

from pipeline.errors import SecateurError
from pipeline.recipe.recipe import Recipe
from stages.commands.comparing.github import annotation_lines, github_of, recipe_of, write_summary

RECIPE = """\
name: demo
model: model.keras
data: {source: npz, path: data.npz, test: test}
stages:
  - load
  - quantize: {schemes: [float32, int8]}
  - export: {formats: [tflite]}
  - verify
  - benchmark: {targets: [cpu]}
gates:
  - {metric: "tflite/float32@cpu.latency_ratio", max: 0.8}
  - metric: "tflite/int8@cpu.latency_ratio"
    max: 0.5
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    path = tmp_path / "configs" / "mine.yaml"
    path.write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    return Recipe.load(Path("configs/mine.yaml"))


def test_an_annotation_stands_where_the_gate_bounds_the_metric(make_report, recipe):
    (line,) = annotation_lines(make_report("regression"), recipe)
    assert line.startswith("::error file=configs/mine.yaml,line=13,title=regression%3A latency@cpu of tflite/int8::")
    assert "1.083 [1.071, 1.094]" in line


def test_without_a_gate_it_stands_at_the_stage_and_without_a_recipe_nowhere(make_report, recipe):
    (line,) = annotation_lines(make_report("inconclusive", name="tflite/dynamic"), recipe)
    assert line.startswith("::warning file=configs/mine.yaml,line=9,")
    (line,) = annotation_lines(make_report("regression"), None)
    assert line.startswith("::error title=")


def test_at_most_five_and_the_rest_is_counted(make_report, recipe):
    report = make_report(*["inconclusive"] * 4, *["regression"] * 4)
    lines = annotation_lines(report, recipe)
    assert [line.partition(" ")[0] for line in lines] == ["::error"] * 4 + ["::warning"]
    assert lines[-1].endswith("; and 3 more, see the step's summary")
    assert annotation_lines(make_report("ok"), recipe) == []


def test_what_files_are_called_is_no_command(make_report):
    (line,) = annotation_lines(make_report("regression", name="a\n::error::b,c:d%"), None)
    assert "\n" not in line
    properties = line.split("::")[1]
    assert properties == "error title=regression%3A latency@cpu of a%0A%3A%3Aerror%3A%3Ab%2Cc%3Ad%25"
    assert "%25" in line
    assert github_of(make_report("ok"), None).startswith("ok  ")


def test_the_recipe_of_a_run_is_found_by_its_digest(recipe, tmp_path):
    from pipeline.records.manifest import RunManifest

    (tmp_path / "broken.yaml").write_text("name: [")
    (tmp_path / "compose.yaml").write_text("services:\n  web:\n    ports: !reset [80]\n")
    (tmp_path / "tag.yaml").write_text("!!bool x")
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    run = RunManifest(
        run_id="3f2a", name="x", recipe_digest=recipe.digest, stages=(), metrics={}, gates=(), verdict="pass"
    )
    assert recipe_of((None, run), tmp_path).source.file == recipe.source.file.absolute()
    assert recipe_of((run.model_copy(update={"recipe_digest": "sha256:" + "0" * 64}),), tmp_path) is None
    assert recipe_of((None,), tmp_path) is None


def test_the_summary_grows_and_a_bad_place_is_named(make_report, monkeypatch, tmp_path):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    write_summary(make_report("ok"))
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    write_summary(make_report("regression"))
    assert file.read_text().startswith("before\n### REGRESSION")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no" / "summary.md"))
    with pytest.raises(SecateurError, match="can't be written"):
        write_summary(make_report("ok"))
