"""Find where artifacts come from, in the records of a store."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.records.artifacts import Artifact
from pipeline.records.manifest import ActionRecord
from pipeline.store import Store

SHORTEST_PREFIX = 4  # hexadecimal digits that may stand for a digest


def makers(store: Store) -> dict[str, tuple[ActionRecord, Artifact]]:
    """Return who made each recorded artifact (the first maker found, if several made the same)."""
    by_digest: dict[str, tuple[ActionRecord, Artifact]] = {}
    # Sorted, because `keys` has no order: of several makers it has to be the same one each time.
    for key in sorted(store.records.keys()):
        record = store.records.peek(key)
        if record is not None:
            for artifact in record.outputs:
                # A stage that changed nothing returns its input: the maker is the one that was not given it.
                if artifact.digest not in record.action.inputs.values():
                    by_digest.setdefault(artifact.digest, (record, artifact))
    return by_digest


def digests_named(name: str, digests: Iterable[str]) -> list[str]:
    """Return the digests that `name` means: `sha256:…`, with or without that prefix, whole or its first digits."""
    wanted = name if name.startswith("sha256:") else f"sha256:{name}"
    if len(wanted) < len("sha256:") + SHORTEST_PREFIX:
        return []
    return sorted(digest for digest in digests if digest.startswith(wanted))
