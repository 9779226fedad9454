"""Define what stages exchange: typed artifacts, named by their content.

An artifact is a kind, its files (by digest) and the typed facts of that kind. Its digest covers all three and nothing
else: no time, no path, no key, so that two runs that make the same thing make the same artifact.

Which kinds exist is open: `pipeline.records.kinds` finds the class of each kind's facts in an entry-point group.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Annotated, Any

from pydantic import ConfigDict, Field, PlainValidator, SerializeAsAny, StringConstraints
from pydantic_core import to_json

from pipeline.records.keys import digest_of
from pipeline.records.kinds import facts_class
from pipeline.records.values import Value

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Kind = str  # `tflite-model`: the name of an entry point in the group of kinds


class FileRef(Value):
    """Refer to one file of an artifact: a POSIX-relative name, and the digest of its bytes."""

    # No slash, and no dot in front: `secateur export` makes paths of these names, and a shared store has other writers.
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    digest: Digest
    size: int = Field(ge=0, description="bytes")
    media_type: str


class TensorSpec(Value):
    """Describe a model's input or output: `shape` has None for each free dimension, including the batch."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class Facts(Value):
    """Hold what is known of an artifact; every kind has its own class, which names the kind."""

    kind: Kind


class PlainFacts(Facts):
    """Hold the facts of a kind that nothing installed knows, as they were stored: old stores still open."""

    model_config = ConfigDict(extra="allow")


def _of_their_kind(data: object) -> Facts:
    """Validate the facts in a document by the class of their kind; raises ValidationError if they do not fit it."""
    if isinstance(data, Facts):
        return data
    kind = data.get("kind") if isinstance(data, dict) else None
    known: type[Any] | None = facts_class(kind) if isinstance(kind, str) else None
    # As JSON, because strict values accept lists for tuples only there.
    return (known or PlainFacts).model_validate_json(to_json(data))


# As any: pydantic writes the fields of the declared class alone, and `Facts` has only the kind.
AnyFacts = Annotated[SerializeAsAny[Facts], PlainValidator(_of_their_kind)]


class Artifact(Value):
    """Hold a kind (that of its facts) and files. Equal content means equal digest."""

    files: tuple[FileRef, ...]
    facts: AnyFacts

    @property
    def kind(self) -> Kind:
        return self.facts.kind

    @property
    def digest(self) -> str:
        """Return `sha256:…` over kind, files and facts."""
        return _digest_of_document(self.model_dump_json())

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the files."""
        return tuple(file.name for file in self.files)

    @property
    def size_bytes(self) -> int:
        """Return the total size of the files in bytes."""
        return sum(file.size for file in self.files)

    def file(self, name: str) -> FileRef:
        """Return the file called `name`; KeyError if the artifact has none of that name."""
        for file in self.files:
            if file.name == name:
                return file
        raise KeyError(name)


@cache
def _digest_of_document(document: str) -> str:
    """Digest and cache: canonical JSON is written by slow Python code, and a run repeats the same digests."""
    return digest_of("artifact", json.loads(document))
