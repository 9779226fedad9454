"""Getting ready ahead: what a stage will need later and takes long to start begins while earlier stages run.

Stages that have something to begin are `Prepares` (`pipeline.contracts.hooks`).
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import Prepares
from pipeline.planning.chain import Node, OutputOf


def prepare_followers(node: Node, nodes: Sequence[Node], threads: int) -> None:
    """Let the stages of `node`, which is about to run, and of all `nodes` that follow from it get ready."""
    following: set[str] = set()
    for other in nodes:
        upstream = {source.node for source in other.inputs.values() if isinstance(source, OutputOf)}
        if other.id == node.id or upstream & following:
            following.add(other.id)
            stage = stages()[other.stage]
            if isinstance(stage, Prepares):
                stage.prepare(other.config, threads)
