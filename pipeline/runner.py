"""A whole run: the chain's actions in order, each a hit or done now, then metrics, gates and the verdict.

The manifest is written whatever happens: a run that failed or was interrupted says where.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import platformdirs

from pipeline import gates, interruption
from pipeline.artifacts import KerasFacts
from pipeline.chain import Node
from pipeline.discovery import stages
from pipeline.errors import SecateurError
from pipeline.events import INTERRUPTED, Failed, Finished, Listener, Started, silent
from pipeline.manifest import (
    ActionRecord,
    GateResult,
    Interval,
    Output,
    PlannedAction,
    RunManifest,
    StageEntry,
    Verdict,
)
from pipeline.model_files import make_importable
from pipeline.perform import Done, Job, Workshop, perform
from pipeline.plan import Resolution, plan_node, resolve
from pipeline.recipe import Recipe
from pipeline.store import Store


def default_store() -> Path:
    """`~/.cache/secateur` on Linux, its like elsewhere (the command line also looks at `SECATEUR_STORE`)."""
    return platformdirs.user_cache_path("secateur", appauthor=False)


def run(
    recipe: Recipe,
    store: str | Path | None = None,
    *,
    until: str | None = None,
    force_from: str | None = None,
    listener: Listener = silent,
) -> RunManifest:
    """Run a recipe and return its manifest, written to the store as well.

    Raises RecipeError before anything runs, and the error of the stage that failed after writing the manifest
    (its verdict is then "failed"). Gates that fail do not raise: they are the manifest's verdict.
    """
    root = Path(store).expanduser() if store is not None else default_store()
    return Run(recipe, Store(root), until, force_from).execute(listener)


class Run:
    """One run on its way: what is resolved, and an entry for each action so far."""

    def __init__(self, recipe: Recipe, store: Store, until: str | None = None, force_from: str | None = None) -> None:
        self.resolution: Resolution = resolve(recipe, store, until, force_from)
        self._nodes = list(self.resolution.chain.nodes)  # and what a gate asked for beyond them
        self._until = until
        self._recipe = recipe
        self.store = store
        self._listener: Listener = silent
        self.run_id = store.runs.new_id()
        self._entries: list[StageEntry] = []
        self.manifest: RunManifest | None = None  # once it is written

    def execute(self, listener: Listener = silent) -> RunManifest:
        """All nodes, then the manifest; `listener` hears of each."""
        self._listener = listener
        make_importable(self._recipe)
        nodes = tuple(self._nodes)
        for position, node in enumerate(nodes):
            self._guarded(node, nodes[position + 1 :])
        results = self._hold_gates()
        undecided = {result.metric for result in results if result.verdict == "inconclusive"}
        extensions = [extended for node in nodes if (extended := self._extended(node, undecided)) is not None]
        for node in extensions:
            self._guarded(node, ())
        self._nodes += extensions
        results = self._hold_gates() if extensions else results
        return self._write(gates.verdict_of(results), self._metrics()[0], tuple(results))

    def _guarded(self, node: Node, rest: Sequence[Node]) -> None:
        """Do one node; where it fails the manifest says so, and that the `rest` was skipped."""
        started = time.perf_counter()
        try:
            interruption.check()
            if len(self._entries) == 1:  # the model is loaded, and nothing long has run
                self._check_gates()
            self._step(node)
        except BaseException as error:
            if isinstance(error, SecateurError):
                error.where = self._recipe.place_of(error.where, node.step)
            self._fail(node, rest, error, time.perf_counter() - started)
            raise

    def _check_gates(self) -> None:
        """What gates say of the model's outputs, which the first node has told."""
        facts = self.resolution.results[self._nodes[0].id].output("keras-model").facts
        if isinstance(facts, KerasFacts):
            gates.check_outputs(self._recipe, [spec.name for spec in facts.outputs])

    def _hold_gates(self) -> list[GateResult]:
        metrics, intervals = self._metrics()
        wanted = self._recipe.gates if self._until is None else [g for g in self._recipe.gates if g.metric in metrics]
        return gates.hold(wanted, metrics, intervals)

    def _extended(self, node: Node, undecided: set[str]) -> Node | None:
        """The one longer look at what a gate could not tell by the first, as a node of its own; or None."""
        longer = getattr(stages()[node.stage], "extended", None)
        measured = {f"{node.name}.{metric}" for metric in self.resolution.results[node.id].intervals}
        config = longer(node.config, self._recipe.folder) if longer and undecided & measured else None
        if config is None:
            return None
        extended = replace(node, id=f"{node.id}:extended", config=config)
        if node.id in self.resolution.forced:
            self.resolution.forced |= {extended.id}
        return extended

    def _step(self, node: Node) -> None:
        started = time.perf_counter()
        planned = plan_node(node, self.resolution, self.store)
        record = self.resolution.results.get(node.id)
        done = Done(record, "hit") if record else self._perform(node, planned)
        self.resolution.results[node.id] = done.record
        wall_s = time.perf_counter() - started
        reason = planned.reason if done.status != "hit" or record else "done by another run meanwhile"
        self._entries.append(_entry(node, done, reason, wall_s))
        self._listener(Finished(node.id, done.status, reason, wall_s, done.record.metrics))

    def _perform(self, node: Node, planned: PlannedAction) -> Done:
        action = self.resolution.action(node)
        if action is None:  # nodes run in order: every input was made, or the run ended there
            raise RuntimeError(f"{node.id} has inputs that nothing made")
        self._listener(Started(node.id, planned.reason))
        job = Job(node.id, action, node.config, self.resolution.artifacts(node))
        known = self.resolution
        workshop = Workshop(self._recipe, self.store, known.data, known.model_files, self._listener, self.run_id)
        return perform(job, workshop, force=node.id in known.forced)

    def _fail(self, node: Node, rest: Sequence[Node], error: BaseException, wall_s: float) -> None:
        interrupted = isinstance(error, KeyboardInterrupt)
        message = INTERRUPTED if interrupted else str(error) or type(error).__name__
        self._listener(Failed(node.id, wall_s, message))
        key = self._key(node)
        document = {"id": node.id, "stage": node.stage, "axis": node.axis, "key": key, "reason": message}
        self._entries.append(StageEntry.model_validate({**document, "status": "failed", "wall_s": round(wall_s, 3)}))
        for skipped in rest:
            reason = f"{node.id} was interrupted" if interrupted else f"{node.id} failed"
            document = {"id": skipped.id, "stage": skipped.stage, "axis": skipped.axis, "key": None, "reason": reason}
            self._entries.append(StageEntry.model_validate({**document, "status": "skipped", "wall_s": 0.0}))
        try:
            self._write("failed", self._metrics()[0], ())
        except SecateurError:
            return  # the store itself is what failed: the error on its way says so

    def _key(self, node: Node) -> str | None:
        """The key of a node that failed; None where finding its key was what failed."""
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
            gates=results,
            verdict=verdict,
        )
        self.store.create()
        self.store.runs.put(manifest)
        self.store.remember(self.resolution.digests)
        self.manifest = manifest
        return manifest


def _entry(node: Node, done: Done, reason: str, wall_s: float) -> StageEntry:
    record: ActionRecord = done.record
    document = {
        "id": node.id,
        "stage": node.stage,
        "axis": node.axis,
        "key": record.key,
        "status": done.status,
        "reason": reason,
        "wall_s": round(wall_s, 3),
        "inputs": record.action.inputs,
        "outputs": tuple(Output.of(artifact) for artifact in record.outputs),
        "metrics": record.metrics,
        "children": record.children,
    }
    return StageEntry.model_validate(document)
