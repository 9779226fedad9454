"""Run recipes on the workers of a Dask cluster: all nodes of all recipes are one graph.

Each recipe has its own `Run` here, which writes the manifest as always and waits for the cluster instead of working.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from pipeline.contracts.events import Event, Warned
from pipeline.errors import DeviceError, SecateurError, listed
from pipeline.planning.chain import Node
from pipeline.recipe.recipe import Recipe
from pipeline.records.keys import digest_of
from pipeline.records.manifest import RunManifest
from pipeline.running.run import Run
from pipeline.running.run_action import ActionResult
from pipeline.running.run_node import Done
from pipeline.store import Store
from stages.search.cluster.graph import before_measuring, task_name
from stages.search.cluster.site import WORKER_COMMAND, Site, refused, site_of
from stages.search.cluster.task import Outcome, Task, do_task, record_of, settled, upstream_of
from stages.search.workers import StudyListener, unheard

LOOK_S = 10.0  # between looks at what the cluster lacks, while nothing ends
MOST_WAITING = 64  # threads here, each of which waits for one recipe
LOCAL_DEVICE = "cpu"
SHARED = "done by another run meanwhile"
LOST = "the connection to the cluster is lost"
GO_ON = "what is finished stays in the store: start the cluster, and the same command goes on from there"

End = tuple[int, RunManifest | SecateurError]


class ClusterLostError(Exception):
    """Raised inside a run if the cluster is gone: it ends the run, and is not the fault of the action that waited."""


@dataclass(frozen=True)
class ClusterWorkers:
    """Run recipes on the cluster of a Dask client; `one_machine` says that workers and devices are all on this machine.

    A device is a resource of its name, and a measurement takes one unit of it: it runs where the device is, one at a
    time. On one machine all devices are one resource, and what measures waits until all else has ended, which would
    disturb it.
    """

    client: Any
    store: Store
    one_machine: bool = False
    side_by_side: ClassVar[bool] = True

    def run(
        self, recipes: Sequence[Recipe], until: str | None = None, listener: StudyListener = unheard
    ) -> Iterator[End]:
        """Run all recipes at once.

        Raises:
            DeviceError: the cluster went away, a worker is not like this process, or none carries a device.
        """
        with site_of(self.store) as site:
            self._check_workers(site)
            study = _Study(self, site, listener)
            refused_recipes = study.plan(recipes, until)
            missing = self.missing(study.devices())
            if missing:
                raise absent(missing)
            yield from refused_recipes
            yield from study.results()

    def resources(self, node: Node) -> dict[str, float]:
        """Return what a worker must carry to run a node, and how much of it the node takes."""
        return dict.fromkeys((LOCAL_DEVICE,) if node.targets and self.one_machine else node.targets, 1.0)

    def missing(self, devices: set[str]) -> list[str]:
        """Return those devices that no worker carries now."""
        return sorted(devices - {name for worker in self.present() for name in worker["resources"]})

    def present(self) -> list[dict[str, Any]]:
        """Return what the scheduler knows about each worker that is there now."""
        return [*self.client.scheduler_info(n_workers=-1)["workers"].values()]

    def _check_workers(self, site: Site) -> None:
        try:
            complaints = self.client.run(site.complaint, on_error="return")
        except (OSError, CancelledError) as error:
            raise lost() from error
        for worker, complaint in sorted(complaints.items()):
            if isinstance(complaint, ImportError | AttributeError):
                raise refused(worker, f"it lacks this secateur ({complaint}): install there what is installed here")
            if isinstance(complaint, BaseException):
                raise complaint
            if complaint:
                raise refused(worker, complaint)


def absent(devices: Sequence[str]) -> DeviceError:
    """Return the error about devices that no worker carries."""
    resources = " ".join(f"{name}=1" for name in devices)
    return DeviceError(
        f"no worker of the cluster carries the device {listed(devices, 'or')}",
        hint=f'start one where it is: {WORKER_COMMAND} --resources "{resources}"',
    )


def lost() -> DeviceError:
    """Return the error about a cluster that is gone."""
    return DeviceError(LOST, hint=GO_ON)


@dataclass
class _Study:
    """Track one call of `run`: the run of each recipe, and the tasks of all, by name."""

    workers: ClusterWorkers
    site: Site
    listener: StudyListener
    runs: dict[int, Run] = field(default_factory=dict)
    names: dict[int, dict[str, str]] = field(default_factory=dict)  # of tasks, by recipe and node
    tasks: dict[str, tuple[int, Task]] = field(default_factory=dict)  # each with the recipe that asked for it first
    futures: dict[str, Any] = field(default_factory=dict)
    quiet: Any = None  # ends when all has ended that would disturb a measurement
    stopped: bool = False
    told: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def plan(self, recipes: Sequence[Recipe], until: str | None) -> list[End]:
        """Name the tasks of every recipe; returns the recipes that can't be resolved, each with its error."""
        errors: list[End] = []
        for index, recipe in enumerate(recipes):
            try:
                run = Run(recipe, self.workers.store, until, elsewhere=partial(self._wait, index))
                self.names[index] = {}
                tasks = dict([self._named(index, node, run) for node in run.resolution.chain.nodes])
                # So that the next recipe need not read the same data again.
                run.store.remember(run.resolution.digests)
            except SecateurError as error:
                errors.append((index, error))
                continue
            self.runs[index] = run
            self.tasks = {name: (index, task) for name, task in tasks.items()} | self.tasks
        return errors

    def devices(self) -> set[str]:
        """Return what workers must carry for all tasks."""
        return {name for _, task in self.tasks.values() for name in self.workers.resources(task.node)}

    def results(self) -> Iterator[End]:
        """Submit all tasks and yield the end of each run."""
        client, pool = self.workers.client, ThreadPoolExecutor(min(MOST_WAITING, len(self.runs) or 1))
        try:
            with _connected():
                self._submit_all()
                self._look()
            ends = {pool.submit(self._execute, index, run): index for index, run in self.runs.items()}
            while ends:
                try:
                    for end in as_completed(list(ends), timeout=LOOK_S):
                        yield ends.pop(end), end.result()
                except TimeoutError:
                    with _connected():
                        self._look()
        except ClusterLostError as error:
            raise lost() from error
        finally:
            self.stopped = True
            if client.status == "running":
                client.cancel(list(self.futures.values()))
            pool.shutdown(cancel_futures=True)

    def _named(self, index: int, node: Node, run: Run) -> tuple[str, Task]:
        given, names = run.resolution.given(node), self.names[index]
        names[node.id] = task_name(node, run.resolution, given, names, self.site.store)
        return names[node.id], Task(run.resolution.recipe, node, given, run.run_id, self.site)

    def _submit_all(self) -> None:
        for index, run in self.runs.items():
            for node in before_measuring(run.resolution.chain):
                self._submit(self.names[index][node])
        if self.workers.one_machine and self.devices():
            key = digest_of("quiet", sorted(self.futures)).replace("sha256:", "quiet-")
            self.quiet = self.workers.client.submit(settled, *self.futures.values(), key=key)
        for index in self.runs:
            for name in self.names[index].values():
                self._submit(name)

    def _submit(self, name: str) -> Any:
        with self.lock:
            if name not in self.futures:
                index, task = self.tasks[name]
                resources = self.workers.resources(task.node)
                read = [self.futures[self.names[index][node]] for node in upstream_of(task.node)]
                self.futures[name] = self.workers.client.submit(
                    do_task, task, *read, _after=self.quiet if resources else None, key=name, resources=resources
                )
            return self.futures[name]

    def _execute(self, index: int, run: Run) -> RunManifest | SecateurError:
        try:
            return run.execute(partial(self._tell, index))
        except SecateurError as error:
            return error

    def _wait(self, index: int, node: Node) -> Done:
        """Return what the cluster made of a node; raises what its stage raised there."""
        if node.id not in self.names[index]:  # a longer measurement, for a gate that is not decided
            name, task = self._named(index, node, self.runs[index])
            self.tasks.setdefault(name, (index, task))
        name = self.names[index][node.id]
        outcome = self._outcome(node, self._submit(name))
        own = self.tasks[name][0] == index
        for message in outcome.warnings if own else ():
            self._tell(index, Warned(node.id, message))
        if outcome.error is not None:
            raise copy(outcome.error)  # another run that shares the task adds its own place and manifest
        record = record_of(self.workers.store, node.id, str(outcome.key))
        if own:
            return Done(ActionResult(record, outcome.status), outcome.reason, outcome.wall_s)
        return Done(ActionResult(record, "hit"), SHARED, 0.0)

    def _outcome(self, node: Node, future: Any) -> Outcome:
        from distributed import KilledWorker

        try:
            outcome: Outcome = future.result()
        except KilledWorker as error:
            what = f"{error.allowed_failures + 1} workers died while they ran it"
            hint = "give them more memory, or look into the log of the last one"
            raise DeviceError(what, where=f"{node.id} on {error.last_worker.address}", hint=hint) from error
        except (OSError, CancelledError) as error:
            if self.stopped:
                raise KeyboardInterrupt from error
            raise ClusterLostError(LOST) from error
        return outcome

    def _tell(self, index: int, event: Event) -> None:
        with self.lock:  # a listener hears one event at a time
            self.listener(index, event)

    def _look(self) -> None:
        """Say once what is wrong with the cluster now, and wait on: a job queue may give more workers later."""
        doubt = self._doubt()
        if doubt and doubt != self.told:
            self._tell(min(self.runs, default=0), Warned("cluster", doubt))
        self.told = doubt

    def _doubt(self) -> str:
        present, missing = self.workers.present(), self.workers.missing(self.devices())
        threads = max((task.recipe.threads for _, task in self.tasks.values()), default=0)
        cores = os.cpu_count() or 1
        if not present:
            return "there are no workers now: waiting for one"
        if missing:
            return f"{absent(missing)}; waiting for it"
        if self.workers.one_machine and len(present) * threads > cores:
            return f"{len(present)} workers of {threads} threads share {cores} cores: start fewer, or set `threads: 1`"
        return ""


@contextmanager
def _connected() -> Iterator[None]:
    """Raise ClusterLostError where Dask says that the scheduler is gone."""
    try:
        yield
    except (OSError, CancelledError) as error:
        raise ClusterLostError(LOST) from error
