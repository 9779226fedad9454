"""Check that a worker is one of ours: the same software, and the same store under the same path.

A worker of another version would write results under keys that this process never looks for, and one with another
folder would write them where nobody reads them.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.contracts.discovery import stages
from pipeline.errors import DeviceError, first_few
from pipeline.store import Store
from pipeline.store.files import PROCESS
from pipeline.system.installed import package_version

WORKER_COMMAND = "dask worker ADDRESS --nthreads 1 --memory-limit 0"


@dataclass(frozen=True)
class Site:
    """Describe what a client expects of its workers; `token` is a file in the store that only this client wrote."""

    store: Path
    token: str
    software: Mapping[str, str]

    def complaint(self, dask_worker: Any) -> str | None:
        """Return why this process, whose Dask worker is given (by this name, by Dask), can't work for the client."""
        here = {name: software().get(name, "absent") for name in self.software}
        differing = [
            f"{name} {here[name]} and not {version}" for name, version in self.software.items() if here[name] != version
        ]
        if differing:
            return f"it has {first_few(differing)}: install there what is installed here, then start it again"
        if not (self.store / "tmp" / self.token).exists():
            return f"it does not see the store {self.store}: mount this folder there under the same path"
        if dask_worker.state.nthreads != 1:
            return f"it does several tasks at once, and TensorFlow's state is global: start it by `{WORKER_COMMAND}`"
        return None

    def check(self) -> None:
        """Raise DeviceError if this process can't work for the client."""
        from distributed import get_worker

        complaint = self.complaint(get_worker())
        if complaint:
            raise refused(worker_name(), complaint)


def refused(worker: str, complaint: str) -> DeviceError:
    """Return the error about a worker that can't be used; a complaint is `WHAT: HINT`."""
    what, _, hint = complaint.partition(": ")
    return DeviceError(f"a worker of the cluster can't be used: {what}", where=worker, hint=hint)


@cache
def software() -> dict[str, str]:
    """Return the versions that results, keys and messages between processes depend on, as they are here."""
    names = {"secateur", "distributed", *(name for stage in stages().values() for name in stage.packages)}
    versions = {name: package_version(name) for name in sorted(names)}
    of_stages = {f"stage {name}": str(stage.version) for name, stage in stages().items()}
    return {"python": "{}.{}".format(*sys.version_info), **versions, **of_stages}


@contextmanager
def site_of(store: Store) -> Iterator[Site]:
    """Yield what workers are to check, while the token is in the store."""
    store.create()
    token = store.root / "tmp" / f"{PROCESS}-cluster-{secrets.token_hex(8)}"
    token.touch()
    try:
        yield Site(store.root.absolute(), token.name, software())
    finally:
        token.unlink(missing_ok=True)


def worker_name() -> str:
    """Return the address of the worker that this process is, and its machine."""
    from distributed import get_worker

    from pipeline.planning.plan import host

    return f"{get_worker().address} on {host()}"
