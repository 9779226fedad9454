"""Convert numbers to a file's own types and run it in its own batch size, for the sessions of all formats.

Arrays go in and come out by name as float32, whatever the file's own types are: inputs of an int8 file are quantized on
the way in and its outputs dequantized on the way out, by the scale and zero point that the file carries. Files are run
at the batch size that they were made for, and sample by sample if it is one or free, like on a device. The batch size
matters: ONNX Runtime's dynamic quantization takes one scale for a whole batch, so that in batches of 256 every output
of the demo's network differed from the one at batch 1, by up to 0.13.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.formats.format import Arrays
from stages.samples.batches import batches_of

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


def content_of(model: bytes | Path) -> bytes:
    """Return the bytes of a model of one file."""
    return model if isinstance(model, bytes) else model.read_bytes()


def in_batches(
    run_batch: Callable[[Arrays], dict[str, NDArray[Any]]], arrays: Arrays, size: int
) -> dict[str, NDArray[Any]]:
    """Concatenate runs of `size` samples each; the last one is padded with its own last sample."""
    import numpy as np

    count = len(next(iter(arrays.values())))
    parts = [run_batch({name: v[picked] for name, v in arrays.items()}) for picked in batches_of(count, size)]
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


def random_feeds(
    ports: Iterable[tuple[str, Sequence[int | None], DTypeLike]], shapes: Mapping[str, Sequence[int]]
) -> dict[str, NDArray[Any]]:
    """Return random inputs by name for ports of (name, sizes with None where free, dtype), with a free batch of 1.

    ValueError if other sizes are free and `shapes`, by name ("" for any) and with the batch, does not give the input's.
    """
    import numpy as np

    rng, feeds = np.random.default_rng(0), {}
    for name, own, dtype in ports:
        sizes = list(own)
        if None in sizes[1:]:
            wanted = shapes.get(name, shapes.get("", ()))
            if len(wanted) != len(sizes) or any(a not in (None, b) for a, b in zip(sizes, wanted, strict=True)):
                shown = ",".join("?" if size is None else str(size) for size in sizes)
                raise ValueError(f"input {name} has free dimensions ({shown}): --shape {name}={shown}")
            sizes = list(wanted)
        shape, kind = tuple(size or 1 for size in sizes), np.dtype(dtype)
        # Wider integers are indices into tables of unknown size.
        drawn = rng.uniform(-1.0, 1.0, shape) if kind.kind == "f" else rng.integers(0, 2, shape)
        feeds[name] = drawn.astype(kind)
    return feeds


def quantized(values: NDArray[Any], detail: Mapping[str, Any]) -> NDArray[Any]:
    """Convert real numbers to the file's input type: `round(x / scale) + zero_point`, clipped, for integer inputs."""
    import numpy as np

    scale, zero_point = detail["quantization"]
    if not scale:
        return np.ascontiguousarray(values, dtype=detail["dtype"])
    limits = np.iinfo(detail["dtype"])
    # `rint` takes the even one of two equally near steps, and a device may not: ranges of inputs avoid such values
    # (samples/input_ranges.py).
    stored: NDArray[Any] = np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max).astype(detail["dtype"])
    return stored


def dequantized(values: NDArray[Any], detail: Mapping[str, Any]) -> NDArray[Any]:
    """Convert the file's output to real numbers: `(q - zero_point) * scale` for quantized outputs; a new array."""
    import numpy as np

    scale, zero_point = detail["quantization"]
    if not scale:
        # A copy: LiteRT's arrays are views of its memory.
        return np.array(values)
    return (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
