from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.store import Store
from pipeline.system.installed import package_version
from stages.search.cluster.site import Site, refused, site_of, software

ONE_THREAD = SimpleNamespace(state=SimpleNamespace(nthreads=1))


def test_a_worker_like_this_process_is_fine_while_the_token_is_there(tmp_path: Path) -> None:
    with site_of(Store(tmp_path / "store")) as site:
        assert site.complaint(ONE_THREAD) is None
        assert site.store == tmp_path / "store"
    assert list((tmp_path / "store" / "tmp").iterdir()) == []
    assert f"it does not see the store {tmp_path / 'store'}" in str(site.complaint(ONE_THREAD))


def test_the_software_is_what_decides_results_and_messages() -> None:
    known = software()
    assert known["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    for name in ("secateur", "tensorflow", "tf-keras", "distributed", "ai-edge-litert"):
        assert known[name] == package_version(name) != "absent"
    assert int(known["stage finetune"]) >= 4


@pytest.mark.parametrize("name", ["tensorflow", "secateur", "python", "stage prune", "plugin"])
def test_another_version_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with site_of(Store(tmp_path / "store")) as site:
        other: Site = replace(site, software={**site.software, name: "9.9"})
        complaint = str(other.complaint(ONE_THREAD))
    assert f"it has {name} {software().get(name, 'absent')} and not 9.9" in complaint
    error = refused("tcp://w:1", complaint)
    assert error.hint == "install there what is installed here, then start it again"
    assert (error.where, error.exit_code) == ("tcp://w:1", 4)


def test_a_worker_that_does_several_tasks_at_once_is_refused(tmp_path: Path) -> None:
    with site_of(Store(tmp_path / "store")) as site:
        complaint = site.complaint(SimpleNamespace(state=SimpleNamespace(nthreads=2)))
    assert "start it by `dask worker ADDRESS --nthreads 1" in str(complaint)
