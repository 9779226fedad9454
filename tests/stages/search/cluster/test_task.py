"""Run tasks on a worker inside this process: what the workers of a cluster do with one node."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from pipeline.errors import PLEASE_REPORT, BlobError, DataError, DeviceError, RecipeError, StageError
from pipeline.planning.plan import Resolution, resolve
from pipeline.recipe.recipe import Recipe
from pipeline.store import Store
from stages.search.cluster import task as module
from stages.search.cluster.site import Site, site_of
from stages.search.cluster.task import Outcome, Task, do_task, record_of, upstream_of

# Filters of warnings are global: one that a stage sets in the worker's thread can be undone by another thread.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as client:
        yield client


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def site(store: Store) -> Iterator[Site]:
    with site_of(store) as site:
        yield site


@pytest.fixture
def resolution(swept_recipe: Path, store: Store) -> Resolution:
    return resolve(Recipe.load(swept_recipe), store, devices=False)


@pytest.fixture
def task(resolution: Resolution, site: Site) -> Any:
    """Make a task of the node with an id."""

    def of(node_id: str) -> Task:
        node = next(node for node in resolution.chain.nodes if node.id == node_id)
        return Task(resolution.recipe, node, resolution.given(node), "0000abcd", site)

    return of


def test_a_node_runs_on_what_is_in_the_store_and_only_that_node(task, client, store) -> None:
    loaded = client.submit(do_task, task("load"), pure=False).result()
    assert loaded.error is None
    pruned = client.submit(do_task, task("prune"), loaded, pure=False).result()
    assert (loaded.status, pruned.status, pruned.error) == ("ran", "ran", None)
    assert set(store.records.keys()) == {loaded.key, pruned.key}
    record = record_of(store, "prune", pruned.key)
    assert record.action.inputs["model"] == record_of(store, "load", loaded.key).outputs[0].digest
    assert record.provenance.run_id == "0000abcd"
    again = client.submit(do_task, task("prune"), loaded, pure=False).result()
    assert (again.status, again.key) == ("hit", pruned.key)
    assert pickle.loads(pickle.dumps(task("prune"))) == task("prune")


def test_what_lacks_an_input_does_not_begin(task) -> None:
    assert do_task(task("prune"), Outcome(error=StageError("lost"))) == Outcome()


def test_a_model_that_is_another_one_there_is_refused(task, client) -> None:
    other = replace(task("load"), given={"file": "sha256:" + "1" * 64})
    error = client.submit(do_task, other, pure=False).result().error
    assert isinstance(error, DataError)
    assert "file of the recipe differ between this machine and the worker" in error.what


def test_a_folder_that_is_not_there_is_told_with_the_worker(task, client, tmp_path) -> None:
    moved = task("load")
    moved = replace(moved, recipe=replace(moved.recipe, folder=tmp_path / "elsewhere"))
    error = client.submit(do_task, moved, pure=False).result().error
    assert isinstance(error, RecipeError)
    assert error.what.startswith("on the worker ")
    assert "workers read the recipe's files" in str(error.hint)


def test_a_worker_of_another_version_does_nothing(task, client, store) -> None:
    site = replace(task("load").site, software={"tensorflow": "1.0"})
    error = client.submit(do_task, replace(task("load"), site=site), pure=False).result().error
    assert isinstance(error, DeviceError)
    assert "tensorflow" in error.what
    assert list(store.records.keys()) == []


def test_a_record_that_does_not_show_up_is_an_error_after_a_while(store, monkeypatch) -> None:
    monkeypatch.setattr(module, "SEEN_S", 0.01)
    with pytest.raises(BlobError, match="the record of prune, which was made a moment ago, is not there"):
        record_of(store, "prune", "0" * 64)


def test_an_error_is_sent_with_its_words_and_without_its_frames() -> None:
    try:
        try:
            raise ValueError("deep inside")
        except ValueError as cause:
            raise StageError("prune failed", where="prune", hint=PLEASE_REPORT) from cause
    except StageError as error:
        sent = pickle.loads(pickle.dumps(module._to_send(error)))
    assert (sent.what, sent.where, sent.hint) == ("prune failed", "prune", PLEASE_REPORT)
    assert "deep inside" in sent.__notes__[0]
    assert sent.__cause__ is sent.__traceback__ is None


def test_upstream_is_each_node_once(resolution: Resolution) -> None:
    read = {node.id: upstream_of(node) for node in resolution.chain.nodes}
    assert read["load"] == ()
    assert read["benchmark:tflite/float32@cpu"] == ("export:tflite/float32", "baseline:tflite")
