"""Make up labels where there are none: the classes that the source itself names.

Accuracy is then agreement with the source, which is 1 for the source. Everything that takes labels works as ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.npz import NpzFile
from pipeline.data.samples import Preprocess
from pipeline.errors import DataError, RecipeError
from pipeline.store.file_digests import FileDigests
from stages.keras.inputs import by_input
from stages.keras.types import KerasModel
from stages.samples.batches import spread_over
from stages.samples.preprocess_trial import other_ways

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH = 64
LOOKED_AT, ONE_CLASS = 400, 0.99  # samples, and the share of them from which on they are as good as one class
LABELLED = "labelled-by-source.npz"


def label_by_source(model: KerasModel, data: Path, preprocess: Preprocess, folder: Path) -> Path:
    """Write a copy of an unlabelled npz with the classes that `model` names, (N,) int64, and return its path.

    RecipeError if the model's output is not one row of scores a sample, DataError if inputs don't fit.
    """
    import numpy as np

    require_classes(model)
    reader = NpzFile(data, FileDigests())
    arrays: dict[str, NDArray[Any]] = {}
    for split in reader.splits():
        inputs = reader.read(split).inputs
        named = inputs if isinstance(inputs, Mapping) else {"": inputs}
        for name, samples in named.items():
            arrays[f"x_{split}__{name}" if name else f"x_{split}"] = np.asarray(samples[:])
        arrays[f"y_{split}"] = _classes(model, named, preprocess, str(data))
    folder.mkdir(parents=True, exist_ok=True)
    made, draft = folder / LABELLED, folder / f"draft-{LABELLED}"
    np.savez(draft, **arrays)  # type: ignore[arg-type]  # its hint takes the keyword allow_pickle for one of them
    draft.replace(made)
    return made


def telling_way(model: KerasModel, data: Path, given: Preprocess) -> tuple[Preprocess, float, float]:
    """Return the preprocessing with which `model` tells samples apart, and its largest class with it and as given.

    That is the given one, unless with it nearly all samples are of one class, as where a network of pixels from 0 to
    255 gets them from 0 to 1: then the usual one that spreads the samples most. The classes are shares of the samples.
    RecipeError if there is none: any network would agree on such samples.
    """
    import numpy as np

    require_classes(model)
    inputs = NpzFile(data, FileDigests()).read("train").inputs
    named = inputs if isinstance(inputs, Mapping) else {"": inputs}
    places = spread_over(len(next(iter(named.values()))), LOOKED_AT)
    some = {name: np.asarray(samples[places]) for name, samples in named.items()}

    def largest(way: Preprocess) -> float:
        return float(np.bincount(_classes(model, some, way, str(data))).max() / len(places))

    as_given = largest(given)
    if as_given <= ONE_CLASS:
        return given, as_given, as_given
    others = list(other_ways(some[""], given).values()) if "" in some else []
    share, best = min(((largest(way), place) for place, way in enumerate(others)), default=(1.0, 0))
    if share > ONE_CLASS:
        what = f"the source takes {as_given:.1%} of the samples for one class: agreement with it would say nothing"
        hint = "give labels (y_train, y_test), or samples of several classes, as the network was trained on"
        raise RecipeError(what, where=str(data), hint=hint)
    return others[best], share, as_given


def require_classes(model: KerasModel) -> None:
    """Raise RecipeError unless `model` has one output, of at least two scores a sample."""
    shapes = [tuple(output.shape) for output in model.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 2 or (shapes[0][1] or 0) < 2:
        what = f"without labels, candidates are judged by the source's classes, and its outputs are {shapes}"
        raise RecipeError(what, where="data", hint="give labels: y_train and y_test in the npz")


def _classes(model: KerasModel, named: Mapping[str, Any], preprocess: Preprocess, where: str) -> NDArray[Any]:
    import numpy as np

    count = len(next(iter(named.values())))
    found = []
    for start in range(0, count, BATCH):
        batch = {name: preprocess(np.asarray(samples[start : start + BATCH])) for name, samples in named.items()}
        arrays = by_input(batch.get("", batch), model.input_names)
        try:
            outputs = np.asarray(model(arrays if len(arrays) > 1 else arrays[0], training=False))
        except ValueError as error:
            what = f"samples of {sorted(set(map(np.shape, batch.values())))} don't fit the model"
            raise DataError(what, where=where, hint="secateur inspect says what shape it takes") from error
        found.append(outputs.argmax(axis=1))
    return np.concatenate(found)
