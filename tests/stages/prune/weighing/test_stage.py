"""Prune to several targets with one search for all of them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.recipe.recipe import Recipe
from pipeline.running.run import run
from pipeline.store import Store
from stages.prune.config import PruneConfig
from stages.prune.weighing.report import WeighingReport
from stages.prune.weighing.stage import REPORT_FILE, WeighingStage

RECIPE = """name: weighed
seed: 5
model: weighed.keras
data: {source: npz, path: weighed.npz, calibration: {take: 40}}
stages: [load, prune: {criterion: obs, scope: loss, search: 4, search_at: 0.5, macs: 0.5}]
"""


@pytest.fixture
def folder(keras, tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    made = keras.layers.Conv2D(8, 3, activation="relu")(keras.layers.Conv2D(8, 3, activation="relu")(image))
    keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(made))).save(tmp_path / "weighed.keras")
    x = np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype(np.float32)
    np.savez(tmp_path / "weighed.npz", x_train=x, y_train=np.arange(64) % 3)
    (tmp_path / "weighed.yaml").write_text(RECIPE)
    return tmp_path


def weighings(folder, *settings):
    """Return the keys of the searches that pruning by these settings went by, and of what pruned."""
    recipe = Recipe.load(folder / "weighed.yaml", [f"stages.prune.{setting}" for setting in settings])
    pruned = next(entry for entry in run(recipe, folder / "store").stages if entry.id == "prune")
    records = map(Store(folder / "store").records.get, pruned.children)
    return [record.key for record in records if record.action.stage == WeighingStage.name], pruned.key


def test_another_target_searches_no_more(folder):
    first, pruned = weighings(folder)
    assert len(first) == 1
    again = [weighings(folder, "macs=0.7"), weighings(folder, "macs=0.3")]
    assert [keys for keys, _ in again] == [first, first]
    assert len({pruned, *(key for _, key in again)}) == 3
    other, _ = weighings(folder, "macs=null", "ratio=0.5")  # another measure
    assert len(other) == 1
    assert other != first
    store = Store(folder / "store")
    artifact = store.records.get(first[0]).output("weighing-report")
    report = WeighingReport.model_validate_json(store.blobs.path(artifact.file(REPORT_FILE).digest).read_bytes())
    assert artifact.facts.foreseen == len(report.targets) > 3
    assert artifact.facts.tried == report.search.tried <= 4


def test_recipes_without_it_keep_their_keys():
    assert "search_at" not in PruneConfig(criterion="obs", scope="loss").model_dump(mode="json")


@pytest.mark.parametrize("settings", [{"scope": "global"}, {"criterion": "obs", "scope": "loss", "search": 0}])
def test_it_is_for_a_search(settings):
    with pytest.raises(ValueError, match="search_at is for scope: loss"):
        PruneConfig.model_validate({"criterion": "obs", "search_at": 0.5} | settings)
