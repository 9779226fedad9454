"""Prepare ahead: work that a later stage needs and that is slow to start begins while earlier stages run.

Stages with such work are `Prepares` (`pipeline.contracts.hooks`).
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import Prepares
from pipeline.planning.chain import Node, OutputOf


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
