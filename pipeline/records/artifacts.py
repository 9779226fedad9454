"""What stages exchange: typed artifacts, named by their content.

An artifact is a kind, its files (by digest) and the typed facts of that kind. Its digest covers all three and
nothing else: no time, no path, no key, so that two runs that make the same thing make the same artifact.

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
    """One file of an artifact: a POSIX-relative name, and the bytes by digest."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    digest: Digest
    size: int = Field(ge=0, description="bytes")
    media_type: str


class TensorSpec(Value):
    """A model's input or output: `shape` with None where a dimension is free, the batch included."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class Facts(Value):
    """What is known of an artifact; every kind has its own class, which names the kind."""

    kind: Kind


class PlainFacts(Facts):
    """The facts of a kind that nothing installed knows, as they were stored: old stores open all the same."""

    model_config = ConfigDict(extra="allow")


def _of_their_kind(data: object) -> Facts:
    """The facts in a document, by the class of their kind; raises ValidationError where they do not fit it."""
    if isinstance(data, Facts):
        return data
    kind = data.get("kind") if isinstance(data, dict) else None
    found: Any = facts_class(kind) if isinstance(kind, str) else None
    # As JSON, in which strict values take lists for tuples.
    return (found or PlainFacts).model_validate_json(to_json(data))


AnyFacts = Annotated[SerializeAsAny[Facts], PlainValidator(_of_their_kind)]


class Artifact(Value):
    """A kind (that of its facts) and files. Equal content means equal digest."""

    files: tuple[FileRef, ...]
    facts: AnyFacts

    @property
    def kind(self) -> Kind:
        return self.facts.kind

    @property
    def digest(self) -> str:
        """`sha256:…` over kind, files and facts."""
        return _digest_of_document(self.model_dump_json())

    @property
    def names(self) -> tuple[str, ...]:
        """What the files are called."""
        return tuple(file.name for file in self.files)

    @property
    def size_bytes(self) -> int:
        """What all files take."""
        return sum(file.size for file in self.files)

    def file(self, name: str) -> FileRef:
        """The file called `name`; KeyError if the artifact has none of that name."""
        for file in self.files:
            if file.name == name:
                return file
        raise KeyError(name)


@cache
def _digest_of_document(document: str) -> str:
    """Canonical JSON is written by slow Python code, and a run asks for its artifacts' digests again and again."""
    return digest_of("artifact", json.loads(document))
