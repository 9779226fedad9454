"""Unpack a TFLite file into objects that can be changed, with weights that lie behind the flatbuffer put inside."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pipeline.errors import ModelError

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT


def unpacked(data: bytes, source: str) -> ModelT:
    """Return the objects of a file of one graph; ModelError, at `source`, for damaged files and control flow.

    ai-edge-quantizer puts the weights of files above 256 kB behind the flatbuffer, where its objects alone lack them.
    """
    from ai_edge_litert.tools.flatbuffer_utils import read_model_from_bytearray

    try:
        model = read_model_from_bytearray(bytearray(data))
    except (struct.error, IndexError, ValueError, TypeError) as error:  # whatever a wrong offset leads to
        raise ModelError(f"the file is no whole TFLite file: {error}", where=source) from error
    if len(model.subgraphs) != 1:
        what = f"the file has {len(model.subgraphs)} subgraphs (control flow): its operators have no single order"
        raise ModelError(what, where=source)
    return model
