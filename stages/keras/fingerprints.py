"""Record what a stored Keras model computes when it is stored, and check that whenever it is read.

A digest over configuration and weights says that a file is whole. It does not say that what Keras makes of the file
computes what was trained: a layer that lost its `call` in this process, a class that changed, a release that reads a
setting differently all have the same digest. Outputs on seeded inputs do show it.
"""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.records.keys import digest_of_bytes
from pipeline.records.manifest import Fingerprint, OutputPrint
from stages.keras.normal_form import as_list, random_inputs
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasModel

VALUES = 16  # of each output
TOLERANCE = 1e-5  # of an output's scale, on other processors, threads or releases
NUDGE = 1e-6  # of the inputs: the network's response shows how it amplifies rounding
AMPLIFIED = 10  # another order of rounding may differ by this many times that much
# Each makes oneDNN take other kernels on the same processor, which round otherwise.
KERNEL_SETTINGS = ("TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE")


def fingerprint_of(model: KerasModel, threads: int) -> Fingerprint | None:
    """Return the fingerprint of a `tf_keras.Model`, run twice at inference; None if it is not meaningful.

    That is the case if the model can't run on synthetic inputs, or gives NaN or infinity on them.
    """
    import numpy as np

    inputs = random_inputs(model, samples=1)
    outputs = _outputs(model, inputs)
    if outputs is None or not all(np.isfinite(values).all() for values in outputs):
        return None
    nudged = _outputs(model, [_nudged(values) for values in inputs]) or outputs
    moves = max((_difference(old, new, _scale(old)) for old, new in zip(outputs, nudged, strict=True)), default=0.0)
    return Fingerprint(
        environment=environment(threads),
        bits=_bits(outputs),
        outputs=tuple(OutputPrint(scale=_scale(o), values=tuple(_some(o).tolist())) for o in outputs),
        tolerance=min(max(TOLERANCE, AMPLIFIED * moves), 1.0),
    )


def check_fingerprint(model: KerasModel, wanted: Fingerprint, threads: int, where: str) -> None:
    """Raise ModelError unless `model` computes what it did when it was stored.

    Bit for bit in the same environment, else within the fingerprint's tolerance. A model that draws random numbers at
    inference differs from itself, and passes.
    """
    inputs = random_inputs(model, samples=1)
    outputs = _outputs(model, inputs)
    if outputs is None or not _differs(outputs, wanted, threads):
        return
    again = _outputs(model, inputs)
    # Only after a difference: nearly all models are deterministic, and need no second run.
    if again is not None and _bits(again) != _bits(outputs):
        return
    raise ModelError(
        "the stored model computes something else than it did when it was stored",
        where=where,
        hint="secateur store verify checks the files; if they are whole, a custom layer or a package changed: "
        "run again with --force-from load",
    )


def same_bits(model: KerasModel, wanted: Fingerprint, threads: int) -> bool:
    """Return whether `model` computes, here and now, exactly what was recorded here."""
    outputs = _outputs(model, random_inputs(model, samples=1))
    return outputs is not None and wanted.environment == environment(threads) and _bits(outputs) == wanted.bits


@cache
def environment(threads: int) -> str:
    """Return what bits depend on besides the model: processor, framework, thread count, kernel settings."""
    flags = _processor_flags()
    kernels = [f"{name}={os.environ[name]}" for name in KERNEL_SETTINGS if name in os.environ]
    parts = [platform.machine(), flags, f"tensorflow {import_tensorflow().__version__}", f"{threads} threads", *kernels]
    return ", ".join(parts)


def _processor_flags() -> str:
    """Return a digest of the processor's instruction sets."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:  # not Linux
        # Where nothing names the processor the host's name stands for it: bits are then compared on this machine alone.
        return platform.processor() or platform.node()
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(" ".join(sorted(line.split())).encode()).hexdigest()[:12]


def _outputs(model: KerasModel, inputs: list[Any]) -> list[Any] | None:
    """Return the outputs as arrays, or None if the model can't run on these inputs."""
    tf = import_tensorflow()
    try:
        return as_list(model(inputs if len(inputs) > 1 else inputs[0], training=False))
    except (ValueError, TypeError, tf.errors.OpError):  # a size or a range that it does not accept
        return None


def _differs(outputs: list[Any], wanted: Fingerprint, threads: int) -> bool:
    import numpy as np

    if wanted.environment == environment(threads):
        return _bits(outputs) != wanted.bits
    if len(outputs) != len(wanted.outputs):
        return True
    for values, recorded in zip(outputs, wanted.outputs, strict=True):
        sampled = _some(values)
        if (
            # `not … <=` instead of `>`: NaN must count as a difference.
            len(sampled) != len(recorded.values)
            or not _difference(np.array(recorded.values), sampled, recorded.scale) <= wanted.tolerance
        ):
            return True
    return False


def _bits(outputs: list[Any]) -> str:
    described = [f"{values.dtype} {values.shape} ".encode() + values.tobytes() for values in outputs]
    return digest_of_bytes(b"".join(described))


def _some(values: Any) -> Any:
    """Return some of an output's values, evenly spaced, as float64."""
    import numpy as np

    flat = values.ravel()
    positions = np.linspace(0, flat.size - 1, min(VALUES, flat.size)).astype(np.int64)
    return flat[positions].astype(np.float64)


def _scale(values: Any) -> float:
    import numpy as np

    return float(np.abs(values.astype(np.float64)).max(initial=0.0))


def _difference(expected: Any, actual: Any, scale: float) -> float:
    """Return the largest difference relative to `scale`; infinite if something is not finite."""
    import numpy as np

    # In float64: the difference of two float16 or integer outputs could overflow in their own type.
    largest = float(np.abs(expected.astype(np.float64) - actual.astype(np.float64)).max(initial=0.0))
    return largest / max(scale, 1e-30) if np.isfinite(largest) else float("inf")


def _nudged(values: Any) -> Any:
    import numpy as np

    return (values * (1 + NUDGE)).astype(values.dtype) if np.issubdtype(values.dtype, np.floating) else values
