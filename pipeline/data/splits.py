"""A split: samples by index, their targets, and the preprocessing that goes with them.

What `x` is depends on the source: an array in memory, or something that reads the samples asked for when they are
asked for. Stages use the methods and never look at it, so that memory need not grow with the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.data.spec import Preprocess, Task


class Samples(Protocol):
    """What numpy arrays have, and lazy sources give: (N, …) numbers, read by a slice or an array of indices."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, …), known without reading a sample."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> Any:
        """An array of the samples at a slice or at an array of indices, in that order."""


@dataclass(frozen=True, slots=True)
class Picked:
    """Some of lazily read samples, by index."""

    samples: Samples
    indices: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.indices), *self.samples.shape[1:])

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Any) -> Any:
        return self.samples[self.indices[key]]


@dataclass(frozen=True, slots=True)
class Split:
    """Inputs as stored, one (N, …) or several by the model's input names, with targets and preprocessing.

    `y` are class numbers (N,) for task `classes`, zeros and ones (N, k) for `multilabel`, floats (N,) or (N, …) for
    `regression`, None for `unlabelled`. `notes` say what was left out of the split, for the user.
    """

    name: str
    digest: str
    x: Samples | Mapping[str, Samples]
    y: Any
    preprocess: Preprocess | Mapping[str, Preprocess]
    task: Task = "classes"
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.x.values()))) if isinstance(self.x, Mapping) else len(self.x)

    @property
    def input_names(self) -> tuple[str, ...] | None:
        """The names of several inputs; None for one, which has no name of its own."""
        return tuple(self.x) if isinstance(self.x, Mapping) else None

    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of one sample of each input, known without reading any."""
        inputs = self.x.values() if isinstance(self.x, Mapping) else (self.x,)
        return tuple(tuple(x.shape[1:]) for x in inputs)

    def inputs(self, start: int = 0, stop: int | None = None) -> Any:
        """Preprocessed inputs of a range of samples: float32 (n, …), or a dict of these by input name."""
        return self._read(slice(start, stop))

    def take(self, indices: Any) -> tuple[Any, Any]:
        """Preprocessed inputs and targets of the samples at `indices` (n,), in that order."""
        return self._read(indices), None if self.y is None else self.y[indices]

    def batches(self, size: int) -> Iterator[tuple[Any, Any]]:
        """Preprocessed inputs and targets, in order, `size` at a time (the last may be smaller)."""
        for start in range(0, len(self), size):
            yield self.inputs(start, start + size), None if self.y is None else self.y[start : start + size]

    def _read(self, key: Any) -> Any:
        if isinstance(self.x, Mapping):
            return {name: self._preprocess(name)(samples[key]) for name, samples in self.x.items()}
        return self._preprocess("")(self.x[key])

    def _preprocess(self, name: str) -> Callable[[Any], Any]:
        if isinstance(self.preprocess, Mapping):
            return self.preprocess.get(name, Preprocess())
        return self.preprocess


def held_out_part(labels: Any, count: int, fraction: float, seed: Any) -> Any:
    """Sorted indices of about `fraction` of `count` samples: of each class its share where there are class labels."""
    import numpy as np

    if labels is not None:
        return stratified_part(labels, fraction, seed)
    size = min(max(1, round(count * fraction)), count - 1)
    return np.sort(np.random.default_rng(seed).permutation(count)[: max(size, 0)])


def stratified_part(labels: Any, fraction: float, seed: Any) -> Any:
    """Sorted indices of about `fraction` of the samples: of each class its share, at least one, and never all."""
    import numpy as np

    rng = np.random.default_rng(seed)
    picked = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        # Each class is left something to train on.
        count = min(max(1, round(len(members) * fraction)), len(members) - 1)
        picked.append(rng.permutation(members)[:count])
    return np.sort(np.concatenate(picked)) if picked else np.empty(0, dtype=np.int64)
