from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.contracts.events import Event, Started
from pipeline.errors import RecipeError, StageError
from pipeline.planning.chain import Node
from pipeline.planning.plan import Resolution, resolve
from pipeline.recipe.recipe import Recipe
from pipeline.running.run import Run
from pipeline.running.run_action import RunScope
from pipeline.running.run_node import Done, run_node
from pipeline.store import Store


def scope_of(resolution: Resolution, store: Store, heard: list[Event]) -> RunScope:
    return RunScope(resolution.recipe, store, resolution.data, resolution.model_files, heard.append, "0000abcd")


def test_a_node_runs_alone_once_what_it_reads_is_made(finished: tuple[Path, Path, object], tmp_path: Path) -> None:
    path, made, _ = finished
    store, heard = Store(tmp_path / "store"), list[Event]()
    resolution = resolve(Recipe.load(path), store)
    load, strip = resolution.chain.nodes[:2]
    scope = scope_of(resolution, store, heard)
    with pytest.raises(RuntimeError, match="strip has inputs that nothing made"):
        run_node(strip, resolution, scope)
    done = run_node(load, resolution, scope)
    assert (done.result.status, done.reason) == ("ran", "first run")
    resolution.results[load.id] = done.result.record
    stripped = run_node(strip, resolution, scope)
    assert [event.action for event in heard if isinstance(event, Started)] == ["load", "strip"]
    assert (
        set(store.records.keys())
        == {done.result.record.key, stripped.result.record.key}
        <= set(Store(made).records.keys())
    )
    again = run_node(load, resolution, scope)
    assert (again.result.status, again.reason) == ("hit", "unchanged")
    assert stripped.wall_s > again.wall_s


def test_a_run_elsewhere_asks_for_each_node_once_and_writes_what_became_of_it(
    finished: tuple[Path, Path, object], tmp_path: Path
) -> None:
    path, made, manifest = finished
    here = Run(Recipe.load(path), Store(made))
    asked = list[str]()

    def elsewhere(node: Node) -> Done:
        asked.append(node.id)
        if node.stage == "export":
            raise StageError("no converter there")
        done = here._run_here(node)
        here.resolution.results[node.id] = done.result.record
        return done

    run = Run(Recipe.load(path), Store(made), elsewhere=elsewhere)
    with pytest.raises(StageError, match="no converter there") as caught:
        run.execute()
    assert asked == [entry.id for entry in manifest.stages]
    statuses = {entry.id: entry.status for entry in caught.value.manifest.stages}
    assert statuses == dict.fromkeys(asked[:-1], "hit") | {asked[-1]: "failed"}


def test_devices_need_not_be_ready_where_nothing_is_measured(recipe_file, store: Store, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))  # where emulated targets would be
    recipe = Recipe.load(recipe_file(), ("stages.benchmark.targets=[cortex-a72]", "stages.export.formats=[tflite]"))
    with pytest.raises(RecipeError, match="cortex-a72"):
        resolve(recipe, store)
    nodes = resolve(recipe, store, devices=False).chain.nodes
    assert {node.targets for node in nodes if node.stage == "benchmark"} == {("cortex-a72",)}
