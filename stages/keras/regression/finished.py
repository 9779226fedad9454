"""Keep the weights of finished steps on disk, so that a killed run resumes after the last one.

The report has a seal and holds the digest of the weights: a step of which a bit is another is not finished.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.records.keys import digest_of_bytes, digest_of_file
from pipeline.store.seals import sealed, unsealed
from stages.keras.types import KerasModel, TfVariable


def finished(folder: Path, step: int) -> bool:
    """Return whether a step's weights and report are there, as they were written; the report is written last."""
    try:
        return bool(digest_of_file(_weights(folder, step)) == _read(folder, step)["weights"])
    except (OSError, ValueError):
        return False


def store(
    folder: Path, step: int, model: KerasModel, changed: Sequence[TfVariable], report: Sequence[Mapping[str, object]]
) -> None:
    """Write the values of the variables of `model` that a step `changed`, and then its report."""
    ours = {id(variable) for variable in changed}
    values = {name: variable.numpy() for name, variable in _variables(model).items() if id(variable) in ours}
    buffer = BytesIO()
    np.savez(buffer, **values)
    weights = buffer.getbuffer()
    _write(_weights(folder, step), weights)
    document = {"fits": report, "weights": digest_of_bytes(weights)}
    _write(_report(folder, step), sealed(json.dumps(document, indent=1).encode()))


def restore(folder: Path, step: int, model: KerasModel) -> list[Any]:
    """Put a step's weights into `model`, and return its report."""
    variables = _variables(model)
    with np.load(_weights(folder, step), allow_pickle=False) as arrays:
        for name in arrays.files:
            variables[name].assign(arrays[name])
    fits: list[Any] = _read(folder, step)["fits"]
    return fits


def _write(path: Path, data: bytes | memoryview) -> None:
    draft = path.with_suffix(".draft")
    draft.write_bytes(data)
    draft.replace(path)


def _read(folder: Path, step: int) -> dict[str, Any]:
    """Return a step's report and the digest of its weights. Raises OSError, and ValueError if it is damaged."""
    document = unsealed(_report(folder, step).read_bytes())
    if document is None:
        raise ValueError(f"the report of step {step} is damaged")
    read: dict[str, Any] = json.loads(document)
    return read


def _variables(model: KerasModel) -> dict[str, TfVariable]:
    """Return the model's variables by the layer's name and their place in it."""
    return {f"{layer.name}/{place}": variable for layer in model.layers for place, variable in enumerate(layer.weights)}


def _weights(folder: Path, step: int) -> Path:
    return folder / f"step-{step}.npz"


def _report(folder: Path, step: int) -> Path:
    return folder / f"step-{step}.json"
