"""Check every conversion: compare the file's outputs in its real runtime with the Keras model's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from pipeline.errors import PostconditionError
from stages.formats.format import LoadedModel
from stages.keras.inputs import as_arrays
from stages.keras.rounding import difference_beyond_rounding
from stages.keras.types import KerasModel

if TYPE_CHECKING:
    from numpy.typing import NDArray


def runtime_difference(
    model: KerasModel, loaded: LoadedModel, samples: Sequence[NDArray[Any]], allowed: float = inf
) -> float:
    """Return the largest output difference relative to the largest expected value, on `samples` (one array per input).

    Differences above `allowed` that are rounding noise in the model's own outputs (stages/keras/rounding.py) are
    ignored. PostconditionError if the file lacks an output, declares or gives another shape, NaN or infinity.
    """
    import numpy as np

    run = partial(_outputs, model)
    expected = run(list(samples))
    # By name: the order of outputs in a TFLite file is not the model's.
    actual = loaded.run(dict(zip(model.input_names, samples, strict=True)))
    declared = {spec.name: spec.shape for spec in loaded.outputs}
    for name, wanted in zip(model.output_names, expected, strict=True):
        if name not in actual:
            raise PostconditionError(f"the exported file has no output {name!r}", hint=f"it has {', '.join(actual)}")
        if actual[name].shape != wanted.shape:
            raise PostconditionError(f"output {name!r} has shape {actual[name].shape}, the model's has {wanted.shape}")
        if not _fits(declared[name], wanted.shape):
            what = f"output {name!r} is declared as {declared[name]} in the file, and has the shape {wanted.shape}"
            raise PostconditionError(what, hint="who reads the file alone would make room for something else")
        if not np.all(np.isfinite(actual[name])):
            raise PostconditionError(
                f"output {name!r} of the exported file is not finite",
                hint="look for weights or activations too large for the scheme"
                if np.all(np.isfinite(wanted))
                else None,
            )
    outputs = [actual[name] for name in model.output_names]
    return difference_beyond_rounding(run, samples, expected, outputs, allowed)


def _fits(declared: tuple[int | None, ...], actual: tuple[int, ...]) -> bool:
    """Return whether a declared shape matches the real one, apart from free sizes and the batch."""
    # The batch is left out: a file made for one sample declares 1, and gives as many as it is fed.
    pairs = zip(declared[1:], actual[1:], strict=False)
    return len(declared) == len(actual) and all(size in (None, real) for size, real in pairs)


def _outputs(model: KerasModel, samples: list[NDArray[Any]]) -> list[NDArray[Any]]:
    import numpy as np

    results = model(samples if len(samples) > 1 else samples[0], training=False)
    return [np.asarray(tensor) for tensor in as_arrays(results)]
