"""Evaluate a classifier under each usual preprocessing, to find the right one.

A network that was trained on 0…255 and is given 0…1 predicts one class for all. Nothing in a model's file says what it
was trained on, but a few hundred labelled samples do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.data import Preprocess, Split
from stages.keras.accuracy import correct_counter
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasModel

SAMPLES = 400
COLORS = 3
GRID = 3  # dimensions with that of the samples
RANGES = {"0…1": (0.0, 1.0), "-1…1": (-1.0, 1.0), "0…255": (0.0, 255.0)}  # narrow ones first
AS_NOW = "as now"
AS_STORED = "as stored"


@dataclass(frozen=True, slots=True)
class Tried:
    """Hold a preprocessing, the range it gives, and how many of the samples are classified correctly with it."""

    name: str
    preprocess: Preprocess
    correct: int
    samples: int

    @property
    def accuracy(self) -> float:
        return self.correct / self.samples


def can_be_tried(model: KerasModel, split: Split) -> bool:
    """Return whether there is a choice: a classifier with one output and one input of real numbers.

    Grids can be in several ranges. Of a vector there is a choice only if it is preprocessed: to leave that out.
    """
    single = len(model.inputs) == len(model.outputs) == 1 and not isinstance(split.x, Mapping)
    labelled = not isinstance(split.task, Mapping) and split.kind == "classes" and split.labelled
    chosen = single and (len(split.input_shapes()[0]) > 1 or split.preprocess != Preprocess())
    # The outputs: a row per sample.
    return bool(chosen and labelled and model.inputs[0].dtype == "float32" and len(model.outputs[0].shape) == 2)


def try_preprocessing(model: KerasModel, split: Split, batch: int = 64) -> list[Tried]:
    """Return the accuracy of `model` on at most 400 samples, evenly spaced, with the current and other preprocessing.

    The first is the split's own preprocessing. If it is one, none at all is always among the others.
    """
    import numpy as np

    indices = np.unique(np.linspace(0, len(split) - 1, min(SAMPLES, len(split))).astype(np.int64))
    stored = replace(split, preprocess=Preprocess())
    now = split.preprocess
    assert isinstance(now, Preprocess)  # `can_be_tried`: one input
    # Read without preprocessing once, and preprocessed in each way from there.
    ways = {AS_NOW: now, **_others(np.asarray(stored.take(indices)[0]), now)}
    right, count = dict.fromkeys(ways, 0), correct_counter(model)
    tensor = import_tensorflow().constant
    for start in range(0, len(indices), batch):
        raw, labels = stored.take(indices[start : start + batch])
        for name, way in ways.items():
            right[name] += count([(tensor(way(raw)), np.reshape(labels, -1))])
    return [Tried(name, ways[name], right[name], len(indices)) for name in ways]


def _others(stored: Any, now: Preprocess) -> dict[str, Preprocess]:
    """Return what is usual for numbers in the range of `stored` (n, …), and none at all, without the current one."""
    import numpy as np

    ways = _usual(stored)
    if Preprocess() not in ways.values():
        ways = {AS_STORED: Preprocess(), **ways}
    first = stored[:2]
    return {
        name: way
        for name, way in ways.items()
        if (way == Preprocess() and now != way) or not np.allclose(way(first), now(first), rtol=1e-3, atol=1e-3)
    }


def _usual(stored: Any) -> dict[str, Preprocess]:
    """Return the usual preprocessing of a grid by the range that it gives, if its numbers lie in a usual one."""
    low, high = float(stored.min()), float(stored.max())
    held = next((ends for ends in RANGES.values() if ends[0] <= low and high <= ends[1]), None)
    if held is None or stored.ndim < GRID:
        return {}
    ways = {name: _between(held, ends) for name, ends in RANGES.items()}
    if held == RANGES["0…255"] and stored.ndim == 4 and stored.shape[-1] == COLORS:
        ways |= {"mode caffe": Preprocess(mode="caffe"), "mode torch": Preprocess(mode="torch")}
    return ways


def words_for(tried: Tried) -> str:
    """Return how to name it after a share: `at 0…1`, `as stored`."""
    return tried.name if tried.name in (AS_NOW, AS_STORED) else f"at {tried.name}"


def _between(held: tuple[float, float], wanted: tuple[float, float]) -> Preprocess:
    if held == wanted:
        return Preprocess()
    if (held, wanted) == (RANGES["0…255"], RANGES["-1…1"]):
        return Preprocess(mode="tf")
    scale = (wanted[1] - wanted[0]) / (held[1] - held[0])
    return Preprocess(scale=scale, offset=wanted[0] - scale * held[0])


def setting_of(way: Preprocess) -> str:
    """Return the recipe's line: `preprocess: {mode: tf}`."""
    settings = way.model_dump(mode="json", exclude_defaults=True)
    return f"preprocess: {{{', '.join(f'{key}: {value}' for key, value in settings.items())}}}"
