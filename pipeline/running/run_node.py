"""Run one node of a resolved chain whose inputs are made: the step that a run repeats, wherever it happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.contracts.events import Started
from pipeline.planning.chain import Node
from pipeline.planning.plan import Resolution, plan_node
from pipeline.records.manifest import PlannedAction
from pipeline.running.ahead import keep_hits, prepare_followers
from pipeline.running.run_action import ActionResult, Job, RunScope, perform


@dataclass(frozen=True, slots=True)
class Done:
    """Hold what became of a node, why it ran or did not, and the seconds that it took."""

    result: ActionResult
    reason: str
    wall_s: float


NodeRunner = Callable[[Node], Done]


def run_node(node: Node, resolution: Resolution, scope: RunScope, following: Sequence[Node] = ()) -> Done:
    """Find a node's result in the store, or make it; raises what its stage raises.

    The records of the nodes that it reads are in `resolution.results`; `following` are nodes that may run after it in
    this process, whose slow preparations start now.
    """
    started = time.perf_counter()
    planned = plan_node(node, resolution, scope.store)
    record = resolution.results.get(node.id)
    done = ActionResult(record, "hit") if record else _perform(node, planned, resolution, scope, following)
    reason = planned.reason if done.status != "hit" or record else "done by another run meanwhile"
    return Done(done, reason, time.perf_counter() - started)


def _perform(
    node: Node, planned: PlannedAction, resolution: Resolution, scope: RunScope, following: Sequence[Node]
) -> ActionResult:
    action = resolution.action(node)
    if action is None:  # nodes run in order, and those whose inputs were lost are skipped
        raise RuntimeError(f"{node.id} has inputs that nothing made")
    scope.listener(Started(node.id, planned.reason))
    # Only here, so that a run of nothing but hits starts no child and imports no TensorFlow.
    prepare_followers(node, following, scope.recipe.threads)
    keep_hits(following, resolution, scope.store)
    job = Job(node.id, action, node.config, resolution.artifacts(node), resolution.fingerprints(node))
    return perform(job, scope, force=node.id in resolution.forced)
