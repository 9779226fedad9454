"""Test `secateur history` as a user runs it."""

import json

import pytest

from pipeline.errors import RecipeError, SecateurError
from stages.commands.histories.record import append


@pytest.fixture
def file(days, tmp_path):
    append(tmp_path / "h.jsonl", days(1.0, 2.0))
    return tmp_path / "h.jsonl"


def test_each_form_goes_to_stdout_or_into_a_file(run, file, tmp_path):
    assert "+100.0 %" in run("history", file).stdout
    document = json.loads(run("history", file, "--json").stdout)
    assert [entry["metrics"]["latency_p50_ms"] for entry in document["entries"]] == [1.0, 2.0]
    assert document["damaged"] == []
    assert run("history", file, "--format", "svg", "-o", tmp_path / "h.svg").stdout == ""
    assert (tmp_path / "h.svg").read_text().startswith("<svg")
    with pytest.raises(SecateurError, match="can't be written"):
        run("history", file, "-o", file / "h.txt")


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--format", "html"), "no format 'html'"), (("--metric", "latency_p50"), "no entry has a metric 'latency_p50'")],
)
def test_what_there_is_none_of_is_named_with_what_there_is(run, file, options, words):
    with pytest.raises(RecipeError, match=words) as caught:
        run("history", file, *options)
    assert options == ("--format", "html") or "latency_p50_ms" in caught.value.hint


def test_an_empty_history_says_how_it_is_filled(run, tmp_path):
    (tmp_path / "h.jsonl").touch()
    with pytest.raises(RecipeError, match="the history is empty") as caught:
        run("history", tmp_path / "h.jsonl")
    assert "--append" in caught.value.hint
