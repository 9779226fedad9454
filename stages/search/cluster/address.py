"""Open what `--cluster` names: a scheduler that runs somewhere, or workers on this machine for as long as it takes."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.errors import DeviceError, RecipeError
from pipeline.reports.command_lines import install_optional
from pipeline.store import Store
from stages.search.cluster.site import WORKER_COMMAND
from stages.search.cluster.workers import LOCAL_DEVICE, ClusterWorkers

if TYPE_CHECKING:
    from distributed import Client

LOCAL, REMOTE = re.compile(r"local:([1-9]\d{0,2})"), re.compile(r"[a-z]+://\S+")
CONNECT_S, WORKERS_S = 20.0, 60.0
HERE = "127.0.0.1"


@contextmanager
def open_cluster(address: str, store: Store, wait_s: float = WORKERS_S) -> Iterator[ClusterWorkers]:
    """Yield workers on `tcp://HOST:PORT`, a Dask scheduler, or `local:N`, N processes started here and ended after it.

    Raises:
        RecipeError: the address is neither, or Dask is not installed.
        DeviceError: nothing answers there, or no worker within `wait_s` seconds.
    """
    local = LOCAL.fullmatch(address)
    if local is None and not REMOTE.fullmatch(address):
        hint = "give tcp://HOST:PORT, where a Dask scheduler listens, or local:N for N workers on this machine"
        raise RecipeError(f"{address!r} is not a cluster", where="--cluster", hint=hint)
    _require_distributed()
    if local is None:
        with _client(address) as client:
            _wait_for_workers(client, address, wait_s)
            yield ClusterWorkers(client, store)
        return
    with local_cluster(int(local[1])) as started, _client(started) as client:
        _wait_for_workers(client, address, wait_s)
        yield ClusterWorkers(client, store, one_machine=True)


@contextmanager
def local_cluster(count: int) -> Iterator[Any]:
    """Yield a cluster of worker processes on this machine, the first of which carries the device `cpu`."""
    import dask
    from distributed import Nanny, Scheduler, SpecCluster

    def worker(number: int) -> dict[str, Any]:
        options = {
            "nthreads": 1,  # TensorFlow's state is global: one action in a process at a time
            "memory_limit": 0,  # a model's memory is not Dask's to judge
            "resources": {LOCAL_DEVICE: 1} if number == 0 else {},
            "host": HERE,
            "dashboard": False,
            "silence_logs": logging.ERROR,
        }
        return {"cls": Nanny, "options": options}

    # As a run in this process has it: other thread counts of BLAS would give other last bits.
    with dask.config.set({"distributed.nanny.pre-spawn-environ": {}}):
        cluster = SpecCluster(
            workers={number: worker(number) for number in range(count)},
            scheduler={"cls": Scheduler, "options": {"host": HERE, "port": 0, "dashboard_address": f"{HERE}:0"}},
            silence_logs=logging.ERROR,
        )
    try:
        yield cluster
    finally:
        cluster.close()


@contextmanager
def _client(address: Any) -> Iterator[Client]:
    from distributed import Client

    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # it prints tracebacks of what is told here
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        hint = "start one by `dask scheduler`, or give the address that it printed; nothing was run"
        raise DeviceError(f"no Dask scheduler answers: {error}", where=f"--cluster {address}", hint=hint) from error
    try:
        yield client
    finally:
        client.close()


def _wait_for_workers(client: Client, address: str, wait_s: float) -> None:
    try:
        client.wait_for_workers(1, timeout=wait_s)
    except TimeoutError as error:
        hint = f"start some on the machines that share the store: {WORKER_COMMAND.replace('ADDRESS', address)}"
        raise DeviceError("the cluster has no workers", where=f"--cluster {address}", hint=hint) from error


def _require_distributed() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        what = "a cluster needs the package distributed"
        raise RecipeError(what, where="--cluster", hint=install_optional("distributed")) from error
