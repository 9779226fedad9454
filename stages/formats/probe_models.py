"""Make model files of one layer, in the form that converters write, without a converter: one millisecond each.

Weights are random; each format writes the file (`probe_model.py` in its folder).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pipeline.errors import DeviceError
from stages.formats.format import MakesProbes
from stages.formats.probe import Probe, ProbeScheme
from stages.formats.registry import formats, names_one_that

if TYPE_CHECKING:
    from numpy.typing import NDArray

ProbeFormat = Annotated[str, names_one_that(MakesProbes)]
INPUT_SCALE, WEIGHT_SCALE, OUTPUT_SCALE = 0.02, 0.01, 0.05


def probe_archive(probes: Sequence[Probe], target_format: str, scheme: ProbeScheme) -> bytes:
    """Return a zip file with a model file for each probe, in order; equal probes give equal bytes.

    DeviceError for a format in which none can be made.
    """
    maker = formats()[target_format]
    if not isinstance(maker, MakesProbes):
        raise DeviceError(f"in {target_format} no files of single layers can be made")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for index, probe in enumerate(probes):
            # `ZipInfo` has a fixed date; with a name alone the archive would hold the time, and equal probes other
            # bytes.
            archive.writestr(zipfile.ZipInfo(f"{index:05d}"), maker.probe_model(probe, scheme))
    return buffer.getvalue()


def probe_weights(probe: Probe) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return kernel (outputs, height, width, inputs of a group) and bias, float32."""
    import numpy as np

    rng = np.random.default_rng(0)
    taken = 1 if probe.kind == "depthwise" else probe.inputs // probe.groups
    kernel = rng.uniform(-1, 1, (probe.outputs, *probe.kernel, taken)).astype(np.float32)
    return kernel, rng.uniform(-1, 1, probe.outputs).astype(np.float32)


def probe_shapes(probe: Probe) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of input and output, channels last."""
    if probe.kind == "dense":
        return (probe.height, probe.inputs), (probe.height, probe.outputs)
    rows, columns = -(-probe.height // probe.strides[0]), -(-probe.width // probe.strides[1])
    return (1, probe.height, probe.width, probe.inputs), (1, rows, columns, probe.outputs)
