"""Run one node of a recipe on a worker, against the store that all workers share."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.contracts.events import Event, Listener, Warned
from pipeline.contracts.shared import Shared
from pipeline.data.source import data_source
from pipeline.errors import PLEASE_REPORT, BlobError, DataError, RecipeError, SecateurError
from pipeline.planning.chain import Chain, Node, OutputOf
from pipeline.planning.plan import Resolution
from pipeline.recipe.model_files import find_files, make_importable
from pipeline.recipe.recipe import Recipe
from pipeline.records.manifest import ActionRecord
from pipeline.running.run_action import RunScope
from pipeline.running.run_node import Done, run_node
from pipeline.store import Store
from pipeline.store.file_digests import FileDigests
from stages.search.cluster.site import Site, worker_name

SAME_FILES = "workers read the recipe's files, the model and the data: under the same paths, with the same content"
SEEN_S, LOOK_S = 60.0, 0.2


@dataclass(frozen=True)
class Task:
    """Hold a node of a recipe; `given` are the digests of its inputs that no other node makes, as the client sees them.

    `run_id` is the run that asked for it first.
    """

    recipe: Recipe
    node: Node
    given: Mapping[str, str]
    run_id: str
    site: Site


@dataclass(frozen=True)
class Outcome:
    """Tell how a task ended: the key of the record that is in the store now, or an error.

    Neither for a task that did not begin, since what it reads was not made.
    """

    key: str | None = None
    status: str = ""
    reason: str = ""
    wall_s: float = 0.0
    warnings: tuple[str, ...] = ()
    error: SecateurError | None = None


def upstream_of(node: Node) -> tuple[str, ...]:
    """Return the nodes that a node reads, each once."""
    return tuple(dict.fromkeys(source.node for source in node.inputs.values() if isinstance(source, OutputOf)))


def do_task(task: Task, *upstream: Outcome, _after: object = None) -> Outcome:
    """Run a task whose `upstream` has ended, in the order of `upstream_of`; `_after` only makes it wait.

    Errors of secateur are returned: raised, they would take other recipes with them.
    """
    keys = [outcome.key for outcome in upstream if outcome.key is not None]
    if len(keys) < len(upstream):
        return Outcome()
    heard: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Warned):
            heard.append(event.message)

    try:
        task.site.check()
        done = _run(task, dict(zip(upstream_of(task.node), keys, strict=True)), listen)
    except SecateurError as error:
        return Outcome(warnings=tuple(heard), error=_to_send(error))
    return Outcome(done.result.record.key, done.result.status, done.reason, done.wall_s, tuple(heard))


def settled(*_outcomes: Outcome) -> None:
    """Mark that all these tasks have ended: what waits for it runs on a machine that does nothing else."""


def _run(task: Task, upstream: Mapping[str, str], listen: Listener) -> Done:
    opened = _opened(task)
    resolution = opened.resolution
    resolution.results = {name: record_of(opened.store, name, key) for name, key in upstream.items()}
    resolution.causes = {}
    scope = RunScope(
        task.recipe,
        opened.store,
        resolution.data,
        resolution.model_files,
        listen,
        task.run_id,
        opened.shared,
    )
    with opened.store.leases.hold():
        return run_node(task.node, resolution, scope)


def record_of(store: Store, node: str, key: str) -> ActionRecord:
    """Return the record that a task has just made; BlobError if it is damaged, or does not show up."""
    began = time.monotonic()
    # A network file system shows another machine's new files after a while.
    while (record := store.records.get(key)) is None and time.monotonic() - began < SEEN_S:
        time.sleep(LOOK_S)
    if isinstance(record, ActionRecord):
        return record
    what = f"the record of {node}, which was made a moment ago, is {record or 'not there'}"
    raise BlobError(what, where=str(store.root), hint="run again: what made it will run")


@dataclass
class Opened:
    """Hold a recipe's files as this process has opened them: data is read once for all tasks on it."""

    resolution: Resolution
    store: Store
    shared: Shared = field(default_factory=Shared)

    def fits(self, recipe: Recipe, site: Site) -> bool:
        """Return whether a recipe reads the same files in the same way."""
        mine = self.resolution.recipe
        names = ("folder", "data", "model", "seed", "threads")
        return self.store.root == site.store and all(getattr(mine, name) == getattr(recipe, name) for name in names)


_latest: list[Opened] = []  # at most one


def _opened(task: Task) -> Opened:
    """Return the recipe's files; RecipeError or DataError if they are not what the client has."""
    if not (_latest and _latest[0].fits(task.recipe, task.site) and _differing(task, _latest[0].resolution) == []):
        _latest[:] = [_open(task)]
    opened = _latest[0]
    if opened.resolution.recipe.digest != task.recipe.digest:
        # What one recipe's actions share is not kept for the next one: it would only grow.
        opened.shared = Shared()
        opened.resolution.recipe = task.recipe
    differing = _differing(task, opened.resolution)
    if differing:
        what = f"{', '.join(differing)} of the recipe differ between this machine and the worker {worker_name()}"
        raise DataError(what, where=str(task.recipe.folder), hint=SAME_FILES)
    return opened


def _open(task: Task) -> Opened:
    recipe, store = task.recipe, Store(task.site.store)
    digests = FileDigests(store.file_digests)
    make_importable(recipe)
    try:
        data = None
        if recipe.data is not None:
            data = data_source(recipe.data, recipe.folder, recipe.seed, digests, recipe.threads)
        files = find_files(recipe)
    except RecipeError as error:
        raise RecipeError(f"on the worker {worker_name()}: {error.what}", where=error.where, hint=SAME_FILES) from error
    return Opened(Resolution(recipe, Chain(recipe), data, files, digests), store)


def _differing(task: Task, resolution: Resolution) -> list[str]:
    """Return the names of inputs that are other files here than at the client."""
    here = resolution.given(task.node)
    return [name for name, digest in task.given.items() if here[name] != digest]


def _to_send(error: SecateurError) -> SecateurError:
    """Return an error that can leave this process: its traceback, if a log is to hold it, as text."""
    if error.hint == PLEASE_REPORT:
        error.add_note("on a worker:\n" + "".join(traceback.format_exception(error)))
    # Frames would keep models in memory as long as the outcome is known to the cluster.
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
