from pathlib import Path

from pipeline.cli.options import open_store


def test_a_store_is_the_one_that_is_named_else_the_usual_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert open_store(Path("~/mine")).root == tmp_path / "mine"
    assert open_store(None).root == tmp_path / "cache" / "secateur"
    assert list(tmp_path.iterdir()) == []
