"""Run recipes on the workers of a Dask cluster: all nodes of all recipes are one graph.

Each recipe has its own `Run` here, which writes the manifest as always and waits for the cluster instead of working.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

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
            missing = self.missing({name for _, task in study.tasks.values() for name in self.resources(task.node)})
            if missing:
                raise DeviceError(*_absent(missing))
            yield from refused_recipes
            yield from study.results()

    def resources(self, node: Node) -> dict[str, float]:
        """Return what a worker must carry to run a node, and how much of it the node takes."""
        return dict.fromkeys((LOCAL_DEVICE,) if node.targets and self.one_machine else node.targets, 1.0)

    def missing(self, devices: set[str]) -> list[str]:
        """Return those devices that no worker carries now."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        return sorted(devices - {name for worker in workers for name in worker["resources"]})

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


def _absent(devices: Sequence[str]) -> tuple[str]:
    command = WORKER_COMMAND + ' --resources "{}"'.format(" ".join(f"{name}=1" for name in devices))
    return (f"no worker of the cluster carries the device {listed(devices, 'or')}: start one there by `{command}`",)


def lost() -> DeviceError:
    """Return the error about a cluster that is gone."""
    return DeviceError("the connection to the cluster is lost", hint=GO_ON)


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
                self.runs[index], self.names[index] = run, {}
                for node in run.resolution.chain.nodes:
                    self._add(index, node)
                # So that the next recipe need not read the same data again.
                run.store.remember(run.resolution.digests)
            except SecateurError as error:
                self.runs.pop(index, None)
                errors.append((index, error))
        return errors

    def results(self) -> Iterator[End]:
        """Submit all tasks and yield the end of each run."""
        client, pool = self.workers.client, ThreadPoolExecutor(min(MOST_WAITING, len(self.runs) or 1))
        try:
            self._submit_all()
            ends = {pool.submit(self._execute, index, run): index for index, run in self.runs.items()}
            while ends:
                try:
                    for end in as_completed(list(ends), timeout=LOOK_S):
                        yield ends.pop(end), end.result()
                except TimeoutError:
                    self._look()
        except (ClusterLostError, OSError) as error:
            raise lost() from error
        finally:
            self.stopped = True
            if client.status == "running":
                client.cancel(list(self.futures.values()))
            pool.shutdown(cancel_futures=True)

    def _add(self, index: int, node: Node) -> str:
        run, names = self.runs[index], self.names[index]
        given = run.resolution.given(node)
        name = names[node.id] = task_name(node, run.resolution, given, names, self.site.store)
        self.tasks.setdefault(name, (index, Task(run.resolution.recipe, node, given, run.run_id, self.site)))
        return name

    def _submit_all(self) -> None:
        undisturbing = [
            self.names[index][node]
            for index, run in self.runs.items()
            for node in before_measuring(run.resolution.chain)
        ]
        for name in undisturbing:
            self._submit(name)
        if self.workers.one_machine and len(self.futures) < len(self.tasks):
            key = digest_of("quiet", sorted(self.futures)).replace("sha256:", "quiet-")
            self.quiet = self.workers.client.submit(settled, *self.futures.values(), key=key)
        for name in self.tasks:  # what a task reads was added before it
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
        name = self.names[index].get(node.id) or self._add(index, node)
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
            raise ClusterLostError from error
        return outcome

    def _tell(self, index: int, event: Event) -> None:
        with self.lock:  # a listener hears one event at a time
            self.listener(index, event)

    def _look(self) -> None:
        """Say once what the cluster lacks now, and wait on: a job queue may give it later."""
        workers = self.workers
        missing = workers.missing({name for _, task in self.tasks.values() for name in workers.resources(task.node)})
        nobody = not workers.client.scheduler_info(n_workers=-1)["workers"]
        text = "the cluster has no workers now: waiting for one" if nobody else _absent(missing)[0] if missing else ""
        if text and text != self.told:
            self._tell(min(self.runs), Warned("cluster", text))
        self.told = text
