"""Test `secateur bench` as a user runs it, and the history that it appends to."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline.errors import ModelError, RecipeError
from stages.commands.bench import head_of
from stages.devices.target import find_target
from stages.formats.probe import Probe
from stages.formats.tflite.probe_model import tflite_model

BRIEF = ("--rounds", "2", "--seconds", "0.005")


def test_bench_says_what_makes_its_times_doubtful(files, run):
    result = run("bench", files[0], "--rounds", "1", "--seconds", "0.005", "--threads", "64")
    assert f"! bench: 64 threads share {len(os.sched_getaffinity(0))} processors" in result.stderr
    assert "threads share" not in result.stdout


def test_bench_measures_appends_and_history_draws(files, tmp_path, run):
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


def test_a_history_that_can_not_be_is_refused_before_anything_is_measured(files, tmp_path, run):
    few, _ = files
    for place in (tmp_path / "no" / "h.jsonl", few):
        with pytest.raises(RecipeError):
            run("bench", few, *BRIEF, "--append", place)
    run("bench", few, *BRIEF, "--append", tmp_path / "h.jsonl")
    with pytest.raises(RecipeError, match="no entry has a metric"):
        run("history", tmp_path / "h.jsonl", "--metric", "latency")


def test_all_runtimes_are_named_and_one_round_has_no_interval(files, tmp_path, run):
    tflite = tmp_path / "model.tflite"
    tflite.write_bytes(tflite_model(Probe(kind="dense", inputs=8, outputs=8), "float32"))
    shown = run("bench", files[0], tflite, "--rounds", "1", "--seconds", "0.005").stdout
    foot = shown.splitlines()[-1]
    assert "onnxruntime" in foot
    assert "litert" in foot
    assert foot.endswith(", 1 round")
    assert "[" not in shown


def test_a_model_with_its_data_beside_it_is_measured_and_named_whole(make_external, tmp_path, run):
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


def test_a_model_that_takes_data_from_elsewhere_is_refused(make_external, run):
    with pytest.raises(
        ModelError, match=r"the graph takes data from '\.\./secret', which is not a file in its own folder"
    ):
        run("bench", make_external("../secret"))


def test_the_columns_of_counts_have_names_of_their_own():
    target = find_target("cortex-a72")
    heads = [head_of(metric.name) for metric in target.metrics]
    assert len(set(heads)) == len(heads)
    assert "instructions_load_store" in heads
    assert [head_of(metric) for metric in ("latency_p50_ms", "size_bytes")] == ["p50", "size"]


def test_two_files_of_one_name_keep_apart(files, tmp_path, run):
    few, _ = files
    (tmp_path / "few.onnx").write_bytes(few.read_bytes())
    both = (few, tmp_path / "few.onnx")
    document = json.loads(run("bench", *both, "--rounds", "1", "--seconds", "0.005", "--json").stdout)
    assert [Path(entry["name"]) for entry in document["entries"]] == [*both]
