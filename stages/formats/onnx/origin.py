"""Which Keras model an ONNX file was made of, by its own properties."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import ModelError


def keras_digest(model: Path) -> str | None:
    """The digest that the file's properties name; None where they name none. ModelError where it is damaged inside."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        properties = onnx.load(model, load_external_data=False).metadata_props
    except DecodeError as error:
        hint = "export it again: only its outermost part can still be read"
        raise ModelError(f"the ONNX file is damaged: {error}", where=str(model), hint=hint) from error
    return next((entry.value for entry in properties if entry.key == "model"), None)
