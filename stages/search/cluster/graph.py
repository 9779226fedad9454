"""Turn nodes into tasks of one graph: equal nodes of several recipes are one task.

The key of a record needs the content of all inputs, which is not known before they are made. So a task is named by what
is known beforehand: stage, version, settings, seed, the files given, and the names of the tasks whose results it reads.
Tasks of equal names give equal results. Two tasks of other names that turn out to read equal content have one record:
the store's lock lets one of them do the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.contracts.discovery import stages
from pipeline.planning.chain import Chain, Node, OutputOf
from pipeline.planning.plan import Resolution
from pipeline.records.keys import digest_of
from stages.search.cluster.task import upstream_of


def task_name(
    node: Node, resolution: Resolution, given: Mapping[str, str], names: Mapping[str, str], store: Path
) -> str:
    """Return the scheduler's key of a node: `STAGE-` and 64 digits; `names` are those of the nodes that it reads."""
    stage, recipe = stages()[node.stage], resolution.recipe
    made = {name: source for name, source in node.inputs.items() if isinstance(source, OutputOf)}
    document = {
        "store": str(store),
        "stage": node.stage,
        "version": stage.version,
        "axis": node.axis,
        "config": node.config.model_dump(mode="json", by_alias=True),
        "given": dict(given),
        "made": {name: [names[source.node], source.kind] for name, source in made.items()},
        "seed": recipe.seed if stage.seeded else None,
        "threads": recipe.threads if stage.seeded else None,
        # A target's name is looked up in the recipe's folder first.
        "folder": str(recipe.folder) if node.targets else None,
    }
    return f"{node.stage}-{digest_of('task', document).removeprefix('sha256:')}"


def before_measuring(chain: Chain) -> list[str]:
    """Return the nodes that neither measure nor follow one that does."""
    waiting: set[str] = set()
    for node in chain.nodes:  # in order: a node stands after all that it reads
        if node.targets or waiting & set(upstream_of(node)):
            waiting.add(node.id)
    return [node.id for node in chain.nodes if node.id not in waiting]
