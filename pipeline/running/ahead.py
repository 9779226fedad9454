"""Getting ready ahead: what a stage will need later and takes long to start begins while earlier stages run.

A stage that has something to begin has `prepare(config, threads)`, which returns at once and may be called often.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.contracts.discovery import stages
from pipeline.planning.wiring import Node, OutputOf


def prepare_followers(node: Node, nodes: Sequence[Node], threads: int) -> None:
    """Let the stages of `node`, which is about to run, and of all `nodes` that follow from it get ready."""
    following: set[str] = set()
    for other in nodes:
        upstream = {source.node for source in other.inputs.values() if isinstance(source, OutputOf)}
        if other.id == node.id or upstream & following:
            following.add(other.id)
            prepare = getattr(stages()[other.stage], "prepare", None)
            if prepare is not None:
                prepare(other.config, threads)
