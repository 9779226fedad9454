from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.planning.plan import Resolution, resolve
from pipeline.recipe.recipe import Recipe
from pipeline.store import Store
from stages.search.cluster.graph import before_measuring, task_name


def names_of(resolution: Resolution, store: Path = Path("/store")) -> dict[str, str]:
    names: dict[str, str] = {}
    for node in resolution.chain.nodes:
        names[node.id] = task_name(node, resolution, resolution.given(node), names, store)
    return names


@pytest.fixture
def resolved(swept_recipe: Path, tmp_path: Path):
    return lambda *more: resolve(Recipe.load(swept_recipe, more), Store(tmp_path), devices=False)


def test_equal_beginnings_are_equal_tasks_and_a_change_renames_all_that_follows(resolved) -> None:
    first, other = names_of(resolved()), names_of(resolved("stages.prune.ratio=0.25"))
    assert len(set(first.values())) == len(first)
    same = {node for node, name in first.items() if other[node] == name}
    assert same == {"load", "baseline", "baseline:tflite"}
    assert names_of(resolved()) == first
    assert first["prune"].startswith("prune-")
    assert len(first["prune"]) == len("prune-") + 64


def test_another_seed_or_another_store_renames_everything(resolved) -> None:
    first = names_of(resolved())
    assert not set(first.values()) & set(names_of(resolved("seed=4")).values())  # `load` may draw weights
    assert not set(first.values()) & set(names_of(resolved(), Path("/other")).values())


def test_only_what_no_measurement_precedes_comes_before_measuring(resolved) -> None:
    resolution = resolved()
    measuring = [node.id for node in resolution.chain.nodes if node.targets]
    assert measuring == ["benchmark:tflite/float32@cpu"]
    assert set(before_measuring(resolution.chain)) == {node.id for node in resolution.chain.nodes} - set(measuring)
    by_latency = resolved(
        "stages.prune.ratio=null", "stages.prune.latency=0.8", "stages.prune.measure_on={target: cpu}"
    )
    assert set(before_measuring(by_latency.chain)) == {"load", "baseline", "baseline:tflite"}
