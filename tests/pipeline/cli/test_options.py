import json
from pathlib import Path

from pipeline.cli.options import open_store, print_json
from pipeline.records.manifest import Plan


def test_a_store_is_the_one_that_is_named_else_the_usual_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert open_store(Path("~/mine")).root == tmp_path / "mine"
    assert open_store(None).root == tmp_path / "cache" / "secateur"
    assert list(tmp_path.iterdir()) == []


def test_a_document_is_all_that_stdout_gets(capsys):
    print_json(Plan(actions=()))
    assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "actions": []}
