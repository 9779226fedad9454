"""Describe an exported file in its metadata, as plain data: nothing that changes with our releases."""

from __future__ import annotations

from typing import Any

from pipeline.data.samples import Preprocess
from pipeline.records.schemes import Scheme
from stages.formats.format import ExportSettings


def metadata_of(config: ExportSettings, model_digest: str, scheme: Scheme, converter: str) -> dict[str, Any]:
    """Return the converter, the digest of the Keras model, the scheme, the class names, and the preprocessing."""
    metadata: dict[str, Any] = {"converter": converter, "model": model_digest, "scheme": scheme}
    if config.labels is not None:
        metadata["labels"] = list(config.labels)
    if config.preprocess is not None:
        rule = config.preprocess
        metadata["preprocess"] = (
            _plain(rule) if isinstance(rule, Preprocess) else {n: _plain(r) for n, r in rule.items()}
        )
    return metadata


def _plain(rule: Preprocess) -> dict[str, Any]:
    return {"mode": rule.mode} if rule.mode is not None else {"scale": rule.scale, "offset": rule.offset}
