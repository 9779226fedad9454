"""Check float16 weights: what is beyond its range, and what is lost below it, by layer.

Its largest number is 65504 and its smallest normal one 6.1e-5. TensorFlow 2.21's converter silently clips larger values
to 65504; our ONNX keeps such weights in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.errors import UnsupportedError
from stages.formats.layers.owners import owners_of
from stages.keras.types import KerasModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST, LEAST_NORMAL = 65504.0, 2.0**-14
HINT = "scale them down and what reads them up, or take another scheme: float32 and weight_only have the range"
LOSS = 0.01  # of a kernel's root mean square; rounding alone takes 0.0003


def require_in_half(model: KerasModel, data: bytes, difference: float, allowed: float) -> None:
    """Raise UnsupportedError if weights of a float16 TFLite file were clipped.

    That is: layers whose weights are beyond the range, or, if the outputs are further than `allowed` from Keras', any
    constants (a mask of -1e9 may well be clipped: the exponential of either is 0).
    """
    cut = _cut(data)
    layers = _owners(model, [values for _, values in cut])
    if layers:
        listed = " and ".join(f"{name!r} (up to {value:.3g})" for name, value in layers.items())
        what = f"weights of layer {listed} are beyond the range of float16, which ends at {LARGEST:.0f}"
        raise UnsupportedError(what, where=model.name, hint=HINT)
    if cut and not difference <= allowed:  # `not`, so that NaN is refused as well
        owners = owners_of(model)
        listed = ", ".join(dict.fromkeys(owners.said_of(name) for name, _ in cut))
        raise UnsupportedError(
            f"constants of {listed} are beyond the range of float16, which ends at {LARGEST:.0f}: "
            f"the outputs differ from Keras' by {difference:.1e} (relative)",
            where=model.name,
            hint=HINT,
        )


def _owners(model: KerasModel, cut: Sequence[NDArray[Any]]) -> dict[str, float]:
    """Return by layer its largest weight, for layers with weights among the clipped arrays `cut`."""
    import numpy as np

    # Names are lost where the converter folds a kernel; its sorted numbers identify it in any order of axes.
    known = [np.sort(values, axis=None) for values in cut]  # conversion transposes kernels
    clipped: dict[str, float] = {}
    for name, values in _weights(model):
        largest = float(np.abs(values).max(initial=0))
        if largest > LARGEST:
            # The converter clips, where a plain cast gives infinity. It did so too once:
            # https://github.com/tensorflow/tensorflow/issues/43719 has masks of 1e30 that became inf, and NaN after a
            # product with zero.
            half = np.sort(np.clip(values, -LARGEST, LARGEST).astype(np.float16), axis=None)
            if any(np.array_equal(half, other) for other in known):
                clipped[name] = max(clipped.get(name, 0.0), largest)
    return clipped


def doubts_about_half(model: KerasModel, *, stays_in_float32: bool = False) -> tuple[str, ...]:
    """Return a sentence for each layer of which float16 keeps little.

    And for each beyond its range, if the format is one that `stays_in_float32` there.
    """
    doubts = []
    for name, loss in _losses(model).items():
        text = f"float16 rounds the weights of layer {name!r} by {loss:.0%}"
        doubts.append(f"{text}: many are below {LEAST_NORMAL:.1e}, its smallest normal number")
    if stays_in_float32:
        for name, value in _largest_kernels(model).items():
            text = f"weights of layer {name!r} (up to {value:.3g}) stay in float32"
            doubts.append(f"{text}: float16 ends at {LARGEST:.0f}")
    return tuple(doubts)


def _largest_kernels(model: KerasModel) -> dict[str, float]:
    """Return by layer the largest absolute number in its kernels, for those beyond the range of float16."""
    import numpy as np

    beyond_range: dict[str, float] = {}
    for name, values in _weights(model):
        largest = float(np.abs(values).max(initial=0))
        if values.ndim > 1 and largest > LARGEST:
            beyond_range[name] = max(beyond_range.get(name, 0.0), largest)
    return beyond_range


def _losses(model: KerasModel) -> dict[str, float]:
    """Return by layer float16's rounding error relative to the kernel's root mean square, if it is large."""
    import numpy as np

    losses: dict[str, float] = {}
    for name, values in _weights(model):
        # In float64: squares of weights beyond 1.8e19 are infinite in float32.
        power = float(np.square(values, dtype=np.float64).sum())
        if values.ndim < 2 or not 0 < power < np.inf or np.abs(values).max() > LARGEST:
            continue
        lost = np.square(values.astype(np.float16).astype(np.float64) - values).sum()
        losses[name] = max(losses.get(name, 0.0), float(np.sqrt(lost / power)))
    return {name: loss for name, loss in losses.items() if loss > LOSS}


def _weights(model: KerasModel, prefix: str = "") -> list[tuple[str, NDArray[Any]]]:
    """Return all float32 weights with the name of their layer, in nested models `inner/layer`."""
    weights = list[tuple[str, Any]]()
    for layer in model.layers:
        if getattr(layer, "layers", None) and hasattr(layer, "get_config"):
            weights += _weights(layer, f"{prefix}{layer.name}/")
        else:
            weights += [(f"{prefix}{layer.name}", w) for w in layer.get_weights() if w.dtype.name == "float32"]
    return weights


def _cut(data: bytes) -> list[tuple[str, NDArray[Any]]]:
    """Return the float16 constants of more than one number that reach the end of the range, by name."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(data, 0)
    clipped = []
    for graph in (model.Subgraphs(index) for index in range(model.SubgraphsLength())):
        for tensor in (graph.Tensors(index) for index in range(graph.TensorsLength())):
            buffer = model.Buffers(tensor.Buffer())
            if tensor.Type() != schema.TensorType.FLOAT16 or buffer.DataLength() <= 2:
                continue
            values = buffer.DataAsNumpy().view(np.float16)
            # Written with `not`, so that infinity and NaN are found as well.
            if not np.abs(values).max() < LARGEST:
                clipped.append((tensor.Name().decode(), values))
    return clipped
