from __future__ import annotations

import pytest

from pipeline.recipe.search_spec import Interval
from pipeline.records.manifest import RunManifest
from pipeline.store import Store
from stages.search.foreseen import foreseen_by
from stages.search.space import Space


@pytest.fixture
def space():
    return Space("stages.prune.macs", Interval(low=0.1, high=0.9), {}, {"stages.prune.search_at": 0.5}, {"seed": 1})


def test_a_run_without_such_a_search_foresees_nothing(space, tmp_path):
    run = RunManifest(
        run_id="r", name="n", recipe_digest="sha256:" + "0" * 64, stages=(), metrics={}, gates=(), verdict="pass"
    )
    assert foreseen_by(run, Store(tmp_path), "prune", space) == ()
