"""Run a sweep on a real scheduler and three worker processes, one of which is killed in the middle."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client, get_task_stream

from pipeline.errors import DeviceError, RecipeError
from pipeline.records.manifest import RunManifest
from pipeline.store import Store
from stages.search.cluster.address import local_cluster
from stages.search.cluster.workers import ClusterWorkers
from stages.search.workers import Here


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Start a scheduler with three worker processes."""
    with local_cluster(3) as cluster, Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(3)
        yield client


@pytest.fixture(scope="module")
def here(three, tmp_path_factory: pytest.TempPathFactory) -> dict[int, RunManifest]:
    return dict(Here(Store(tmp_path_factory.mktemp("here") / "store")).run(three()))


@pytest.fixture(scope="module")
def there(three, client, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run the recipes on the cluster and kill a worker that is at work."""
    store = Store(tmp_path_factory.mktemp("there") / "store")
    pids: dict[str, int] = client.run(os.getpid)
    of_cpu = [
        address for address, worker in client.scheduler_info(n_workers=-1)["workers"].items() if worker["resources"]
    ]
    killed: list[str] = []

    def kill() -> None:
        while not killed:
            at_work = [address for address, tasks in client.processing().items() if tasks and address not in of_cpu]
            killed.extend(at_work[:1])
            time.sleep(0.05)
        os.kill(pids[killed[0]], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    with get_task_stream(client) as stream:
        killer.start()
        ends = dict(ClusterWorkers(client, store, one_machine=True).run(three()))
        killer.join()
    return SimpleNamespace(store=store, ends=ends, tasks=stream.data, of_cpu=of_cpu, killed=killed)


def outputs(manifest: RunManifest) -> dict[str, list[str]]:
    """Return the digests of what each action made, without measurements."""
    made = (entry for entry in manifest.stages if entry.stage != "benchmark")
    return {entry.id: [output.digest for output in entry.outputs] for entry in made}


def untimed(manifest: RunManifest) -> dict[str, float]:
    return {name: value for name, value in manifest.metrics.items() if "@" not in name}


def computed(tasks: list[dict[str, Any]], prefix: str) -> list[tuple[float, float]]:
    """Return when tasks of a stage began and ended, without the transfers before them."""
    steps = [step for task in tasks if task["key"].startswith(prefix) for step in task["startstops"]]
    return [(step["start"], step["stop"]) for step in steps if step["action"] == "compute"]


def test_results_are_those_of_one_process_although_a_worker_was_killed(here, there, client) -> None:
    assert len(there.killed) == 1
    assert there.killed[0] not in client.scheduler_info(n_workers=-1)["workers"]
    assert sorted(there.ends) == [0, 1, 2]
    for index, manifest in there.ends.items():
        assert manifest.verdict == "pass"
        assert outputs(manifest) == outputs(here[index])
        assert [entry.id for entry in manifest.stages] == [entry.id for entry in here[index].stages]
        assert untimed(manifest) == untimed(here[index])
        assert there.store.runs.get(manifest.run_id) == manifest


def test_no_action_is_computed_twice(here, there) -> None:
    entries = [entry for manifest in there.ends.values() for entry in manifest.stages]
    ran = Counter(entry.key for entry in entries if entry.status != "hit")
    # One that was made on the worker that died may be known as a hit.
    assert max(ran.values()) == 1
    assert {entry.key for entry in entries} == set(there.store.records.keys())
    alone = [entry for manifest in here.values() for entry in manifest.stages]
    assert len({entry.key for entry in entries}) == len({entry.key for entry in alone})
    assert len(entries) == len(alone) == 3 * len(outputs(here[0])) + 3
    # All three chains open one model: one task.
    assert len({task["key"] for task in there.tasks if task["key"].startswith("load-")}) == 1


def test_only_the_worker_that_carries_the_device_measures_one_at_a_time_after_all_else(there) -> None:
    (device,) = there.of_cpu
    measured = [task for task in there.tasks if task["key"].startswith("benchmark-")]
    assert len(measured) == 3
    assert {task["worker"] for task in measured} == {device}
    spans = sorted(computed(there.tasks, "benchmark-"))
    # To the middle: the scheduler estimates by how much a worker's clock differs, again and again.
    assert all(earlier[1] < (later[0] + later[1]) / 2 for earlier, later in pairwise(spans)), spans
    exported = [stop for _, stop in computed(there.tasks, "export-")]
    assert max(exported) < sum(spans[0]) / 2


def test_a_study_that_ran_is_all_hits_and_what_fails_fails_alone(three, there, client) -> None:
    again = three()
    wrong = three("model=absent.keras")[0]
    ends = dict(ClusterWorkers(client, there.store, one_machine=True).run([*again, wrong], "strip"))
    assert isinstance(ends[3], RecipeError)
    assert "absent.keras is not there" in ends[3].what
    for index in range(3):
        assert {entry.status for entry in ends[index].stages} == {"hit"}
        assert ends[index].stages[-1].id == "strip"


def test_an_error_of_a_stage_is_that_of_its_recipe(three, there, client) -> None:
    recipes = [three()[0], three("stages.prune.layers={no_such_layer: 0.5}", "stages.prune.ratio=null")[1]]
    ends = dict(ClusterWorkers(client, there.store, one_machine=True).run(recipes, "strip"))
    assert ends[0].verdict == "pass"
    assert "no_such_layer" in str(ends[1])
    assert "--set stages.prune" in str(ends[1].where)
    statuses = {entry.id: entry.status for entry in ends[1].manifest.stages}
    assert (statuses["load"], statuses["prune"], statuses["strip"]) == ("hit", "failed", "skipped")


def test_a_device_that_no_worker_carries_is_named_before_anything_runs(three, client, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no worker of the cluster carries the device cortex-a72") as caught:
        list(ClusterWorkers(client, Store(tmp_path / "store")).run(three("stages.benchmark.targets=[cortex-a72]")))
    assert '--resources "cortex-a72=1"' in str(caught.value.hint)
    assert list((tmp_path / "store" / "tmp").iterdir()) == []
