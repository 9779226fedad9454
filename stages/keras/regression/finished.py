"""Keep the weights of finished steps on disk, so that a killed run resumes after the last one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.keras.types import KerasModel, TfVariable


def finished(folder: Path, step: int) -> bool:
    """Return whether a step's weights and report are there; the report is written last."""
    return _report(folder, step).is_file()


def store(
    folder: Path, step: int, model: KerasModel, changed: Sequence[TfVariable], report: Sequence[Mapping[str, object]]
) -> None:
    """Write the values of the variables of `model` that a step `changed`, and then its report."""
    ours = {id(variable) for variable in changed}
    values = {name: variable.numpy() for name, variable in _variables(model).items() if id(variable) in ours}
    for path, write in (
        (_weights(folder, step), lambda file: np.savez(file, **values)),
        (_report(folder, step), lambda file: file.write(json.dumps(report).encode())),
    ):
        draft = path.with_suffix(".draft")
        with draft.open("wb") as file:
            write(file)
        draft.replace(path)


def restore(folder: Path, step: int, model: KerasModel) -> list[Any]:
    """Put a step's weights into `model`, and return its report."""
    variables = _variables(model)
    with np.load(_weights(folder, step), allow_pickle=False) as arrays:
        for name in arrays.files:
            variables[name].assign(arrays[name])
    report: list[Any] = json.loads(_report(folder, step).read_bytes())
    return report


def _variables(model: KerasModel) -> dict[str, TfVariable]:
    """Return the model's variables by the layer's name and their place in it."""
    return {f"{layer.name}/{place}": variable for layer in model.layers for place, variable in enumerate(layer.weights)}


def _weights(folder: Path, step: int) -> Path:
    return folder / f"step-{step}.npz"


def _report(folder: Path, step: int) -> Path:
    return folder / f"step-{step}.json"
