"""Compute every digest of a structure: sha256 over a domain tag and its canonical JSON (RFC 8785).

The tag keeps digests of different things apart (an action can never collide with an artifact), and its version number
lets a later format coexist with this one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import rfc8785

from pipeline.records.values import Json

CHUNK_BYTES = 1 << 20


def digest_of(domain: str, value: Json) -> str:
    """Return `sha256:<hex>` of a JSON-like value under a domain tag, independent of key order and hash seed."""
    return "sha256:" + hashlib.sha256(f"secateur.{domain}.v1\0".encode() + rfc8785.dumps(value)).hexdigest()


def digest_of_bytes(data: bytes | memoryview) -> str:
    """Return `sha256:<hex>` of the bytes, as `sha256sum` prints it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_of_file(path: Path) -> str:
    """Return `sha256:<hex>` of a file's bytes, read in chunks."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
