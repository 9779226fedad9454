"""Seal JSON documents: a last member `seal` holds the sha256 of the document without it.

So that a bit that was flipped by a disk, or a number that was edited, is seen before anything is read from the rest. It
is no signature: whoever can write to the store can seal as well.
"""

from __future__ import annotations

import re

from pipeline.records.keys import digest_of_bytes

# The bytes themselves are sealed, not what they mean: a document of another release is still whole.
SEAL = re.compile(rb'(,\n "seal": |,"seal":)"(?P<digest>sha256:[0-9a-f]{64})"(?P<end>\n?\})\Z')


def sealed(document: bytes) -> bytes:
    """Return the document, a JSON object with a member, with its seal: on a line of its own if the last `}` is."""
    member, end = (',\n "seal": ', b"\n}") if document.endswith(b"\n}") else (',"seal":', b"}")
    return document.removesuffix(end) + f'{member}"{digest_of_bytes(document)}"'.encode() + end


def unsealed(data: bytes) -> bytes | None:
    """Return the document that was sealed; None if it has no seal, or is not what was sealed."""
    found = SEAL.search(data)
    if found is None:
        return None
    document = data[: found.start()] + found["end"]
    return document if digest_of_bytes(document) == found["digest"].decode() else None
