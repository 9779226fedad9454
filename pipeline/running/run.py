"""Execute a whole run: the chain's actions in order, each a hit or done now, then metrics, gates and the verdict.

An action that fails stops what needs its outputs and nothing else. The manifest is always written: for a run that
failed or was interrupted it says where.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pipeline.contracts.discovery import stages
from pipeline.contracts.events import INTERRUPTED, Failed, Finished, Listener, Skipped, Warned, silent
from pipeline.contracts.hooks import ExplainsSlowness, MeasuresByTask, MeasuresOnTarget
from pipeline.contracts.shared import Shared
from pipeline.errors import (
    BlobError,
    ChangedDataError,
    ChangedModelError,
    SecateurError,
    SourceError,
    StoreError,
    UnsupportedError,
)
from pipeline.planning.chain import Node, OutputOf
from pipeline.planning.gate_metrics import check_gate_metrics
from pipeline.planning.plan import Resolution, resolve
from pipeline.recipe.model_files import make_importable
from pipeline.recipe.recipe import Recipe
from pipeline.records.facts import KerasFacts
from pipeline.records.manifest import (
    SOURCE,
    GateResult,
    Interval,
    Output,
    RunManifest,
    StageEntry,
    Verdict,
)
from pipeline.records.speed import slower_files
from pipeline.running import gates
from pipeline.running.run_action import RunScope
from pipeline.running.run_node import Done, NodeRunner, run_node
from pipeline.store import Store, default_store
from pipeline.store.gc import collect_if_due
from pipeline.store.settings import user_settings
from pipeline.system import interruption
from pipeline.system.memory import give_back


def run(
    recipe: Recipe,
    store: str | Path | None = None,
    *,
    until: str | None = None,
    force_from: str | None = None,
    fail_fast: bool = False,
    listener: Listener = silent,
) -> RunManifest:
    """Run a recipe and return its manifest, written to the store as well.

    Raises RecipeError before anything runs. If actions fail, those that do not depend on them still run (with
    `fail_fast` none do), and then the first error is raised: its `manifest` is the run's, whose verdict is "failed",
    and `also` lists the other failures. Failed gates do not raise: they set the manifest's verdict.
    """
    root = Path(store).expanduser() if store is not None else default_store()
    return Run(recipe, Store(root), until, force_from, fail_fast=fail_fast).execute(listener)


class Run:
    """Track one run: what is resolved, and an entry for each action so far.

    `elsewhere` runs a node in another place, against the same store; without it, nodes run in this process.
    """

    def __init__(
        self,
        recipe: Recipe,
        store: Store,
        until: str | None = None,
        force_from: str | None = None,
        *,
        fail_fast: bool = False,
        elsewhere: NodeRunner | None = None,
    ) -> None:
        self.resolution: Resolution = resolve(recipe, store, until, force_from, devices=elsewhere is None)
        self._run_node: NodeRunner = elsewhere or self._run_here
        self._nodes = list(self.resolution.chain.nodes)  # and what a gate requested beyond them
        self._until = until
        self._fail_fast = fail_fast
        self._recipe = recipe
        self.store = store
        self._listener: Listener = silent
        self._gc = user_settings().gc  # now: a mistake in it is told before hours of work
        self.run_id = store.runs.new_id()
        self._entries: list[StageEntry] = []
        self._shared = Shared()
        self._failures: list[tuple[str, SecateurError]] = []
        self._lost: dict[str, str] = {}  # nodes without a result, each with the failed node that caused it
        self._left_out: dict[str, tuple[str, str]] = {}  # of these, what the recipe can do without: name and reason
        self.manifest: RunManifest | None = None  # once it is written

    def execute(self, listener: Listener = silent) -> RunManifest:
        """Execute all nodes that can run, then write the manifest; `listener` hears of each. Raises as `run` does."""
        self._listener = listener
        # The recipe's last run is kept too: what follows from an action that runs now may be in it.
        with self.store.leases.hold(f"recipe:{self._recipe.name}"):
            try:
                manifest = self._execute()
            except SecateurError:
                self._collect()  # the disk may be full
                raise
            self._collect()
            return manifest

    def _execute(self) -> RunManifest:
        make_importable(self._recipe)
        nodes = tuple(self._nodes)
        self._do_all(nodes)
        results = self._hold_gates()
        undecided = {result.metric for result in results if result.verdict == "inconclusive"}
        # Only after all nodes: before that a metric may not exist yet, which `hold` takes for a failed gate.
        extensions = [extended for node in nodes if (extended := self._extended(node, undecided)) is not None]
        self._do_all(extensions)
        self._nodes += extensions
        results = self._hold_gates() if extensions else results
        explained = self._explained()
        self._do_all(explained)
        self._nodes += explained
        verdict = "failed" if self._failures else gates.verdict_of(results)
        manifest = self._write(verdict, self._metrics()[0], tuple(results))
        if self._failures:
            raise self._told(self._failures[0][1])
        return manifest

    def _collect(self) -> None:
        """Free space if the user's settings ask for it, inside of the lease, which keeps this run."""
        try:
            collect_if_due(self.store, self._gc)
        except SecateurError as error:
            self._listener(Warned("store gc", f"nothing was freed: {error}"))

    def _do_all(self, nodes: Sequence[Node]) -> None:
        """Run nodes in order. An error that ends the run is raised once the manifest reflects it for the rest."""
        for position, node in enumerate(nodes):
            try:
                self._do(node)
            except BaseException as error:
                # `_check_gates` raises after its node succeeded: then the error itself is the reason for the rest, not
                # that node.
                cause = f"{node.id} {'was interrupted' if isinstance(error, KeyboardInterrupt) else 'failed'}"
                self._skip(nodes[position + 1 :], cause if node.id in self._lost else str(error))
                self._end(error)
                raise

    def _do(self, node: Node) -> None:
        """Run one node, or skip it if an input was not made; raises only what ends the whole run."""
        upstream = [source.node for source in node.inputs.values() if isinstance(source, OutputOf)]
        failed = next((self._lost[name] for name in upstream if name in self._lost), None)
        if failed is not None:
            self._lost[node.id] = failed
            self._skip([node], f"{failed} {'is left out' if failed in self._left_out else 'failed'}")
            return
        started = time.perf_counter()
        try:
            # A Ctrl-C during the last action may have been swallowed by C++ that was calling back into Python.
            interruption.check()
            self._step(node)
        except BaseException as error:
            if isinstance(error, UnsupportedError) and node.can_be_left_out:
                self._leave_out(node, error)
                return
            self._fail(node, error, time.perf_counter() - started)
            if self._fail_fast or _ends_the_run(error):
                raise
        if node.id in self.resolution.results:
            self._check_gates(node)

    def _check_gates(self, node: Node) -> None:
        """Check the gates while no long action has run yet; RecipeError.

        Their outputs and MACs are known since the first node, what labels can give since the source was evaluated.
        """
        record = self.resolution.results[node.id]
        if node.name == SOURCE and isinstance(stages()[node.stage], MeasuresByTask):
            check_gate_metrics(self.resolution.chain, record.metrics)
        if node is not self._nodes[0]:
            return
        for facts in (artifact.facts for artifact in record.outputs if isinstance(artifact.facts, KerasFacts)):
            gates.check_outputs(self._recipe, [spec.name for spec in facts.outputs])
            gates.check_macs(self._recipe, facts)

    def _hold_gates(self) -> list[GateResult]:
        metrics, intervals = self._metrics()
        wanted = self._recipe.gates if self._until is None else [g for g in self._recipe.gates if g.metric in metrics]
        return gates.hold(wanted, metrics, intervals, failed=bool(self._lost))

    def _extended(self, node: Node, undecided: set[str]) -> Node | None:
        """Return a separate node for the one longer measurement of an undecided gate; or None."""
        stage = stages()[node.stage]
        record = self.resolution.results.get(node.id)
        measured = {f"{node.name}.{metric}" for metric in record.intervals} if record else set()
        config = None
        if isinstance(stage, MeasuresOnTarget) and undecided & measured:
            config = stage.extended(node.config, self._recipe.folder)
        if config is None:
            return None
        extended = replace(node, id=f"{node.id}:extended", config=config)
        # A gate on a measurement that was to be made again must not be decided by a longer one that is recorded.
        if node.id in self.resolution.forced:
            self.resolution.forced |= {extended.id}
        return extended

    def _explained(self) -> list[Node]:
        """Return a separate node for each file that is slower than float32, which also names the operators."""
        slower = {found.axis for found in slower_files(self._entries)}
        last = {node.axis: node for node in self._nodes if node.axis in slower}
        found = []
        for axis, node in last.items():
            stage = stages()[node.stage]
            if axis is None or not isinstance(stage, ExplainsSlowness):
                continue
            config = stage.explaining(node.config, axis, self._recipe.folder)
            if config is not None:
                found.append(replace(node, id=f"{node.id}:operators", config=config))
        return found

    def _step(self, node: Node) -> None:
        done = self._run_node(node)
        self.resolution.results[node.id] = done.result.record
        self._entries.append(_entry(node, done))
        self._listener(Finished(node.id, done.result.status, done.reason, done.wall_s, done.result.record.metrics))

    def _run_here(self, node: Node) -> Done:
        scope = RunScope(
            self._recipe,
            self.store,
            self.resolution.data,
            self.resolution.model_files,
            self._listener,
            self.run_id,
            self._shared,
        )
        return run_node(node, self.resolution, scope, self._nodes)

    def _fail(self, node: Node, error: BaseException, wall_s: float) -> None:
        interrupted = isinstance(error, KeyboardInterrupt)
        if isinstance(error, SecateurError):
            error.where = self._recipe.place_of(error.where, node.step)
            self._failures.append((node.id, error))
        self._lost[node.id] = node.id
        message = INTERRUPTED if interrupted else str(error) or type(error).__name__
        self._listener(Failed(node.id, wall_s, message))
        reason = "\n".join([message, *_where_and_hint(error)])
        document = {"id": node.id, "stage": node.stage, "axis": node.axis, "key": self._key(node), "reason": reason}
        self._entries.append(StageEntry.model_validate({**document, "status": "failed", "wall_s": round(wall_s, 3)}))
        _let_go(error)

    def _leave_out(self, node: Node, error: UnsupportedError) -> None:
        self._lost[node.id] = node.id
        self._left_out[node.id] = (node.name or node.id, str(error))
        self._skip([node], f"left out: {error}", self._key(node))

    def _skip(self, nodes: Sequence[Node], reason: str, key: str | None = None) -> None:
        """Mark nodes as skipped; `key` is that of one that was started and turned out to be impossible."""
        for node in nodes:
            self._listener(Skipped(node.id, reason))
            document = {"id": node.id, "stage": node.stage, "axis": node.axis, "key": key, "reason": reason}
            self._entries.append(StageEntry.model_validate({**document, "status": "skipped", "wall_s": 0.0}))

    def _end(self, error: BaseException) -> None:
        """Write the manifest of a run that ends with `error`, which is to be raised after it."""
        with suppress(SecateurError):  # the store itself may have failed: the pending error says so
            self._write("failed", self._metrics()[0], ())
        if isinstance(error, SecateurError):
            self._told(error)

    def _told(self, error: SecateurError) -> SecateurError:
        """Return the error that the run raises, with the manifest and a line for each other failure."""
        error.manifest = self.manifest
        others = [(name, other) for name, other in self._failures if other is not error]
        error.also = tuple(f"{name}: {'the same' if o.what == error.what else o.what}" for name, o in others)
        return error

    def _key(self, node: Node) -> str | None:
        """Return the key of a node that failed; None if computing its key failed."""
        try:
            action = self.resolution.action(node)
        except (SecateurError, OSError):
            return None
        return action.key if action else None

    def _metrics(self) -> tuple[dict[str, float], dict[str, Interval]]:
        metrics: dict[str, float] = {}
        intervals: dict[str, Interval] = {}
        for node in self._nodes:
            record = self.resolution.results.get(node.id)
            if record is not None and node.name is not None:
                # An extended measurement stands later under the same name as the first one, so its numbers replace
                # those.
                metrics |= {f"{node.name}.{name}": value for name, value in record.metrics.items()}
                intervals |= {f"{node.name}.{name}": value for name, value in record.intervals.items()}
        return gates.with_comparisons(metrics), intervals

    def _write(self, verdict: Verdict, metrics: dict[str, float], results: tuple[GateResult, ...]) -> RunManifest:
        manifest = RunManifest(
            run_id=self.run_id,
            name=self._recipe.name,
            recipe_digest=self._recipe.digest,
            stages=tuple(self._entries),
            metrics=metrics,
            chosen_metrics=self._recipe.data.metrics if self._recipe.data is not None else None,
            gates=results,
            verdict=verdict,
            left_out=self.resolution.chain.skipped | dict(self._left_out.values()),
        )
        # The first action may have failed before anything created the store.
        self.store.create()
        self.store.runs.put(manifest)
        self.manifest = manifest
        if any(_tells_of_a_change(error) for _, error in self._failures):
            # Else a remembered digest that is wrong for whatever reason would fail every later run in the same way.
            self.resolution.digests.forget()
        try:
            self.store.remember(self.resolution.digests)
        except StoreError as error:  # the run itself is written: whoever catches this gets it
            self._told(error)
            raise
        return manifest


def _ends_the_run(error: BaseException) -> bool:
    """Return whether an error is not an action's own: an interruption, an unusable store, a bug of this engine.

    An error that makes all other actions worthless counts too.
    """
    of_store = isinstance(error, StoreError) and not isinstance(error, BlobError)
    return not isinstance(error, SecateurError) or of_store or isinstance(error, SourceError)


def _tells_of_a_change(error: BaseException) -> bool:
    """Return whether an error says that a file is not the one that was hashed, or was raised because of one that does.

    Libraries that read data through a callback raise errors of their own.
    """
    return any(isinstance(cause, ChangedDataError | ChangedModelError) for cause in _causes(error))


def _let_go(error: BaseException) -> None:
    """Free what the frames of a failed action hold, such as models: the error itself is kept, and the run continues."""
    for cause in _causes(error):
        # The traceback would hold a failed action's models until the run ends, while later actions need the memory.
        traceback.clear_frames(cause.__traceback__)
    give_back()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and so on."""
    seen = set[int]()  # an error that was raised from itself is its own cause
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _where_and_hint(error: BaseException) -> list[str]:
    return [text for text in (error.where, error.hint) if text] if isinstance(error, SecateurError) else []


def _entry(node: Node, done: Done) -> StageEntry:
    record = done.result.record
    document = {
        "id": node.id,
        "stage": node.stage,
        "axis": node.axis,
        "key": record.key,
        "status": done.result.status,
        "reason": done.reason,
        "wall_s": round(done.wall_s, 3),
        "inputs": record.action.inputs,
        "outputs": tuple(Output.of(artifact) for artifact in record.outputs),
        "metrics": record.metrics,
        "children": record.children,
    }
    return StageEntry.model_validate(document)
