"""Find which Keras model an ONNX file was made from, by its own properties."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import ModelError


def keras_digest(model: Path) -> str | None:
    """Return the digest in the file's properties; None if there is none. ModelError if it is damaged inside."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        properties = onnx.load(model, load_external_data=False).metadata_props
    except DecodeError as error:
        hint = "export it again: only its outermost part can still be read"
        raise ModelError(f"the ONNX file is damaged: {error}", where=str(model), hint=hint) from error
    return next((entry.value for entry in properties if entry.key == "model"), None)
