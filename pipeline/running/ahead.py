"""Look ahead: what later stages need and is slow to start begins while earlier ones run; what they will read is kept.

Stages with slow preparations are `Prepares` (`pipeline.contracts.hooks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import Prepares
from pipeline.errors import SecateurError
from pipeline.planning.chain import Node, OutputOf
from pipeline.planning.plan import Resolution
from pipeline.store import Store


def prepare_followers(node: Node, nodes: Sequence[Node], threads: int) -> None:
    """Prepare the stages of `node`, which is about to run, and of all `nodes` downstream of it."""
    following: set[str] = set()
    # One pass is enough: a node stands after all that it reads.
    for other in nodes:
        upstream = {source.node for source in other.inputs.values() if isinstance(source, OutputOf)}
        if other.id == node.id or upstream & following:
            following.add(other.id)
            stage = stages()[other.stage]
            if isinstance(stage, Prepares):
                stage.prepare(other.config, threads)


def keep_hits(nodes: Sequence[Node], resolution: Resolution, store: Store) -> None:
    """Note in this process's lease what `nodes` will find in the store, as far as it can be told before they run."""
    # A copy: what was only looked at is no result yet.
    ahead = replace(resolution, results=dict(resolution.results))
    for node in nodes:
        if node.id in ahead.results or node.id in ahead.forced:
            continue
        # What is wrong with a node is told at its turn.
        with suppress(SecateurError, OSError):
            action = ahead.action(node)
            record = store.records.peek(action.key) if action is not None else None
            if record is not None:
                ahead.results[node.id] = record
