from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.errors import DeviceError, RecipeError
from pipeline.store import Store
from stages.search.cluster import address as module
from stages.search.cluster.address import local_cluster, open_cluster


@pytest.mark.parametrize("address", ["local", "local:0", "local:-1", "host:8786", "tcp://", ""])
def test_what_is_not_an_address_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is not a cluster") as caught, open_cluster(address, Store(tmp_path)):
        pass
    assert caught.value.exit_code == 2


def test_the_package_that_is_needed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RecipeError, match="needs the package distributed") as caught:
        open_cluster("local:2", Store(tmp_path)).__enter__()
    assert "'distributed>=" in str(caught.value.hint)


def test_a_scheduler_that_is_away_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_S", 0.5)
    with (
        pytest.raises(DeviceError, match="no Dask scheduler answers") as caught,
        open_cluster("tcp://127.0.0.1:9", Store(tmp_path)),
    ):
        pass
    assert (caught.value.where, caught.value.exit_code) == ("--cluster tcp://127.0.0.1:9", 4)
    assert "dask scheduler" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_a_scheduler_without_workers_is_told(tmp_path: Path) -> None:
    with (
        local_cluster(0) as cluster,
        pytest.raises(DeviceError, match="the cluster has no workers") as caught,
        open_cluster(cluster.scheduler_address, Store(tmp_path), wait_s=0.1),
    ):
        pass
    assert f"dask worker {cluster.scheduler_address} --nthreads 1" in str(caught.value.hint)


def test_local_workers_have_one_thread_and_the_first_one_the_device(tmp_path: Path) -> None:
    with open_cluster("local:1", Store(tmp_path)) as workers:
        (worker,) = workers.client.scheduler_info(n_workers=-1)["workers"].values()
        assert (worker["nthreads"], worker["resources"]) == (1, {"cpu": 1})
        assert workers.one_machine
        assert workers.missing({"cpu", "board"}) == ["board"]
