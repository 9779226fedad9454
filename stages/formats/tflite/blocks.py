"""Read kernels in 4 bits with a scale a block: 32 consecutive weights of an output channel share one.

LiteRT 2.3.0 computes them right in XNNPACK alone. Its own kernel of FULLY_CONNECTED, which runs without delegates, is
wrong with a fused ReLU and for less than four outputs, and says nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, SubGraphT, TensorT
    from numpy.typing import NDArray


def scales_of_blocks(tensor: TensorT) -> int | None:
    """Return the place among the graph's tensors of a kernel's scales, a float16 each block; None without blocks."""
    from ai_edge_litert import schema_py_generated as schema

    how = tensor.quantization
    if how is None or how.detailsType != schema.QuantizationDetails.BlockwiseQuantization:
        return None
    return int(how.details.scales)


def unpacked(codes: NDArray[Any], count: int) -> NDArray[Any]:
    """Return `count` 4-bit numbers, -8 to 7, as int8 (count,); each byte of `codes` has two, first its low half."""
    import numpy as np

    # The low half is shifted up and back, which extends its sign.
    low, high = (codes << 4).view(np.int8) >> 4, codes.view(np.int8) >> 4
    return np.stack([low, high], axis=1).ravel()[:count]


def with_blocks_in_float(data: bytes) -> bytes:
    """Return the file with kernels of blocks as float32, of equal values; the same bytes if it has none.

    Their operators then don't round what they read to 8 bits.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    kernels = [
        (graph, tensor) for graph in model.subgraphs for tensor in graph.tensors if scales_of_blocks(tensor) is not None
    ]
    if not kernels:
        return data
    for graph, tensor in kernels:
        _to_float(model, graph, tensor)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _to_float(model: ModelT, graph: SubGraphT, tensor: TensorT) -> None:
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    blocks = tensor.quantization.details
    scales = np.frombuffer(model.buffers[graph.tensors[blocks.scales].buffer].data, np.float16).astype(np.float32)
    codes = unpacked(np.frombuffer(model.buffers[tensor.buffer].data, np.uint8), int(np.prod(tensor.shape)))
    # In a buffer of its own: another tensor may read the old one.
    buffer = schema.BufferT()
    buffer.data = (codes.reshape(-1, blocks.blockSize) * scales.reshape(-1, 1)).view(np.uint8).ravel()
    tensor.type, tensor.quantization, tensor.buffer = schema.TensorType.FLOAT32, None, len(model.buffers)
    model.buffers.append(buffer)
