"""The check that follows every conversion: the file's outputs in its real runtime beside the Keras model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.errors import PostconditionError
from stages.keras_format import relative_difference
from stages.runtimes import LoadedModel


def runtime_difference(model: Any, loaded: LoadedModel, samples: Sequence[Any]) -> float:
    """Largest output difference relative to the largest expected value, on `samples` (one array an input, in order).

    PostconditionError where the file lacks an output, gives another shape, NaN or infinity.
    """
    import numpy as np

    results = model(list(samples) if len(samples) > 1 else samples[0], training=False)
    expected = [np.asarray(tensor) for tensor in (results if isinstance(results, list | tuple) else [results])]
    actual = loaded.run(dict(zip(model.input_names, samples, strict=True)))
    for name, wanted in zip(model.output_names, expected, strict=True):
        if name not in actual:
            raise PostconditionError(f"the exported file has no output {name!r}", hint=f"it has {', '.join(actual)}")
        if actual[name].shape != wanted.shape:
            raise PostconditionError(f"output {name!r} has shape {actual[name].shape}, the model's has {wanted.shape}")
        if not np.all(np.isfinite(actual[name])):
            raise PostconditionError(
                f"output {name!r} of the exported file is not finite",
                hint="look for weights or activations too large for the scheme"
                if np.all(np.isfinite(wanted))
                else None,
            )
    return relative_difference(expected, [actual[name] for name in model.output_names])
