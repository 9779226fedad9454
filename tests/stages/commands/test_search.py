"""Sweep from the command line; the cluster's own tests are in `tests/stages/search/cluster`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli import build_app
from pipeline.errors import RecipeError, StoreError
from pipeline.store import Store
from stages.commands.search import workers_on
from stages.search.workers import Here

TEXT = """\
name: small
model: m.keras
stages: [load, {{prune: {{ratio: 0.5, round_to: 2}}}}, strip]
gates: [{{metric: prune.params, max: {limit}}}]
sweep: {{stages.prune.ratio: [0.25, 0.5]}}
"""


@pytest.fixture
def search(tmp_path: Path, small: Any) -> Any:
    small.source.save(tmp_path / "m.keras")

    def run(*arguments: str, limit: int = 10**6) -> Result:
        (tmp_path / "r.yaml").write_text(TEXT.format(limit=limit))
        words = ["search", str(tmp_path / "r.yaml"), "--store", str(tmp_path / "store"), *arguments]
        return CliRunner().invoke(build_app(["search", "version"]), words, catch_exceptions=False)

    return run


def test_all_recipes_run_and_stand_side_by_side(search: Any, tmp_path: Path) -> None:
    result = search()
    assert result.exit_code == 0, result.stderr
    head, first, second = result.stdout.strip().splitlines()
    assert head.split() == ["prune.ratio", "prune.params", "verdict", "run"]
    assert (first.split()[:2], second.split()[:2]) == (["1", "0.25"], ["2", "0.5"])
    assert float(first.split()[2]) > float(second.split()[2])
    assert "2 of 2   2: prune.ratio 0.5: pass" in result.stderr
    records = Store(tmp_path / "store").records
    stages = [records.get(key).action.stage for key in [*records.keys()]]
    assert sorted(stages) == ["load", "prune", "prune", "strip", "strip"]

    report = json.loads(search("--json", limit=10).stdout)
    assert (report["schema_version"], report["main"]) == (1, ["prune.params"])
    assert [entry["verdict"] for entry in report["recipes"]] == ["fail", "fail"]
    assert report["recipes"][0]["metrics"]["prune.params"] == float(first.split()[2])
    assert search(limit=10).exit_code == 1


def test_a_database_that_can_not_be_opened_is_refused_before_anything_runs(search: Any, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="unable to open database file"):
        search("--storage", f"sqlite:///{tmp_path}/nowhere/s.db")
    assert not (tmp_path / "store").exists()


def test_a_cluster_that_is_none_is_refused_before_anything_runs(search: Any, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'here' is not a cluster"):
        search("--cluster", "here")
    assert not (tmp_path / "store").exists()


def test_without_a_cluster_work_is_done_here(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with workers_on(None, store) as workers:
        assert workers == Here(store)
