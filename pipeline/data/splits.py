"""Define a split: samples by index, their targets, and the preprocessing that goes with them.

Targets of a model's only output have no name; otherwise they are keyed by the names of its outputs.

The type of `x` depends on the source: an array in memory, or an object that reads requested samples on demand. Stages
use the methods and never look at it, so that memory need not grow with the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from pipeline.data.samples import Preprocess, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Which form it is follows from a split's names, which no checker sees.
Inputs: TypeAlias = Any  # an array (n, …), or arrays by input name
Targets: TypeAlias = Any  # an array (n, …), or arrays by output name, or None
Selection: TypeAlias = "slice | NDArray[Any]"  # of samples: a range, or their indices

CHECKED_BYTES = 16 * 2**20  # read per block


class Samples(Protocol):
    """Provide what numpy arrays and lazy sources share: (N, …) numbers, read by a slice or an array of indices."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (N, …), known without reading a sample."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Selection, /) -> NDArray[Any]:
        """Return an array of the samples at a slice or at an array of indices, in that order."""


@dataclass(frozen=True, slots=True)
class Picked:
    """Select some of lazily read samples, by index."""

    samples: Samples
    indices: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.indices), *self.samples.shape[1:])

    @property
    def finite(self) -> bool:
        """Return whether samples are known to hold neither NaN nor infinity."""
        return getattr(self.samples, "finite", False)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Selection) -> NDArray[Any]:
        return self.samples[self.indices[key]]


@dataclass(frozen=True, slots=True)
class Split:
    """Hold inputs as stored, one (N, …) or several by the model's input names, with targets and preprocessing.

    `y` are class numbers (N,) for task `classes`, zeros and ones (N, k) for `multilabel`, floats (N,) or (N, …) for
    `regression`, None for `unlabelled`; where targets are by output, `y`, `task` and `classes` are mappings by its
    name. `notes` say what was left out of the split, for the user; `rows` are the places of its samples among those
    that are stored, None where it has them all; `said_unlabelled` is whether the recipe says that there are no labels.
    """

    name: str
    digest: str
    x: Samples | Mapping[str, Samples]
    y: Targets
    preprocess: Preprocess | Mapping[str, Preprocess]
    task: Task | Mapping[str, Task] = "classes"
    classes: tuple[str, ...] | Mapping[str, tuple[str, ...]] | None = None
    notes: tuple[str, ...] = ()
    rows: NDArray[Any] | None = None
    said_unlabelled: bool = False

    def __len__(self) -> int:
        return len(next(iter(self.x.values()))) if isinstance(self.x, Mapping) else len(self.x)

    @property
    def input_names(self) -> tuple[str, ...] | None:
        """Return the names of several inputs; None for a single one, which has no name."""
        return tuple(self.x) if isinstance(self.x, Mapping) else None

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """Return the outputs that have targets, if targets are by output; None if they have no name."""
        return tuple(self.task) if isinstance(self.task, Mapping) else None

    @property
    def kind(self) -> Task:
        """Return the task of the targets of a single output, such as those of `of_output`."""
        if isinstance(self.task, Mapping):
            raise TypeError(f"targets are by output: {', '.join(self.task)}")
        return self.task

    @property
    def labelled(self) -> bool:
        """Return whether there are targets, of any output."""
        return self.y is not None

    def of_output(self, name: str) -> Split:
        """Return the split for a model whose only output is `name`: unlabelled if the targets are for other outputs.

        Targets without a name belong to any output.
        """
        if not isinstance(self.task, Mapping):
            return self
        if name not in self.task:
            return replace(self, y=None, task="unlabelled", classes=None)
        classes = self.classes.get(name) if isinstance(self.classes, Mapping) else None
        return replace(self, y=self.y[name], task=self.task[name], classes=classes)

    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Return the shape of one sample of each input, known without reading any."""
        inputs = self.x.values() if isinstance(self.x, Mapping) else (self.x,)
        return tuple(tuple(x.shape[1:]) for x in inputs)

    def inputs(self, start: int = 0, stop: int | None = None) -> Inputs:
        """Return preprocessed inputs of a range of samples: float32 (n, …), or a dict of these by input name."""
        return self._read(slice(start, stop))

    def take(self, indices: NDArray[Any]) -> tuple[Inputs, Targets]:
        """Return preprocessed inputs and targets of the samples at `indices` (n,), in that order."""
        return self._read(indices), at(self.y, indices)

    def batches(self, size: int) -> Iterator[tuple[Inputs, Targets]]:
        """Yield preprocessed inputs and targets, in order, `size` at a time (the last may be smaller)."""
        for start in range(0, len(self), size):
            yield self.inputs(start, start + size), at(self.y, slice(start, start + size))

    def first_not_finite(self) -> tuple[int, str] | None:
        """Find the first sample with NaN or infinity, and its input ("" in a split whose only input has no name).

        Makes one pass over the inputs that can hold them: images and integers can't.
        """
        inputs = self.x if isinstance(self.x, Mapping) else {"": self.x}
        firsts = {name: _first_not_finite(samples) for name, samples in inputs.items()}
        return min(((index, name) for name, index in firsts.items() if index is not None), default=None)

    def _read(self, key: Selection) -> Inputs:
        if isinstance(self.x, Mapping):
            return {name: self._preprocess(name)(samples[key]) for name, samples in self.x.items()}
        return self._preprocess("")(self.x[key])

    def _preprocess(self, name: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
        if isinstance(self.preprocess, Mapping):
            return self.preprocess.get(name, Preprocess())
        return self.preprocess


def _first_not_finite(samples: Samples) -> int | None:
    import numpy as np

    if getattr(samples, "finite", False) or not len(samples):
        return None
    first = np.asarray(samples[0:1])
    if first.dtype.kind != "f":
        return None
    rows = max(1, CHECKED_BYTES // max(1, first.nbytes))
    for start in range(0, len(samples), rows):
        part = np.asarray(samples[start : start + rows])
        finite = np.isfinite(part.reshape(len(part), -1)).all(axis=1)
        if not finite.all():
            return start + int(finite.argmin())
    return None


def at(targets: Targets, key: Selection) -> Targets:
    """Select targets by index or slice: of one array, of each of several by output; None of None."""
    if isinstance(targets, Mapping):
        return {name: values[key] for name, values in targets.items()}
    return None if targets is None else targets[key]


def held_out_part(labels: NDArray[Any] | None, count: int, fraction: float, seed: int | Sequence[int]) -> NDArray[Any]:
    """Return sorted indices of about `fraction` of `count` samples, stratified by class if there are class labels."""
    import numpy as np

    if labels is not None:
        return stratified_part(labels, fraction, seed)
    size = min(max(1, round(count * fraction)), count - 1)
    return np.sort(np.random.default_rng(seed).permutation(count)[: max(size, 0)])


def stratified_part(labels: NDArray[Any], fraction: float, seed: int | Sequence[int]) -> NDArray[Any]:
    """Return sorted indices of about `fraction` of the samples: each class's share, at least one, never all."""
    import numpy as np

    rng = np.random.default_rng(seed)
    picked = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        # Leave each class something to train on.
        count = min(max(1, round(len(members) * fraction)), len(members) - 1)
        picked.append(rng.permutation(members)[:count])
    return np.sort(np.concatenate(picked)) if picked else np.empty(0, dtype=np.int64)
