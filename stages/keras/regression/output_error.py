"""Measure how far a network's outputs are from the source's on held-out samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.keras.closing import before_squashing
from stages.keras.regression.samples import Samples
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasModel

Outputs = list[NDArray[np.float32]]
Run = Callable[[Any], Any]  # from a model's inputs to its outputs before a closing softmax or sigmoid


@dataclass(frozen=True, slots=True)
class OutputError:
    """Compare models with the source, whose outputs on the held-out samples of `samples` are kept in `folder`."""

    samples: Samples
    folder: Path
    scales: tuple[float, ...]  # the variance of each output of the source, summed over its entries

    @classmethod
    def against(cls, source: KerasModel, samples: Samples, folder: Path) -> OutputError:
        """Run the source once. Outputs are taken before a closing softmax or sigmoid."""
        folder.mkdir(parents=True, exist_ok=True)
        count, sums, squares = 0, list[Any](), list[Any]()
        with before_squashing(source) as open_ended:
            for batch, outputs in _held_out(at_inference(open_ended), samples, samples.held_out_batches):
                np.savez(_path(folder, batch), *outputs)
                doubles = [output.astype(np.float64) for output in outputs]
                sums = [*map(np.add, sums or [0.0] * len(outputs), [d.sum(axis=0) for d in doubles])]
                squares = [*map(np.add, squares or [0.0] * len(outputs), [np.square(d).sum(axis=0) for d in doubles])]
                count += len(outputs[0])
        variances = [float((s / count - np.square(m / count)).sum()) for m, s in zip(sums, squares, strict=True)]
        return cls(samples, folder, tuple(v if v > 0 else 1.0 for v in variances))

    def of(self, model: KerasModel, batches: int | None = None) -> float:
        """Return the mean over all outputs of the mean squared difference, relative to the source's variance.

        `batches` limits how many of them are run.
        """
        with before_squashing(model) as open_ended:
            return self.of_outputs(at_inference(open_ended), batches)

    def of_outputs(self, run: Run, batches: int | None = None) -> float:
        """Return the error, as `of` does, of what `run` gives."""
        errors, count, there = [0.0] * len(self.scales), 0, self.samples.held_out_batches
        for batch, outputs in _held_out(run, self.samples, min(there, batches or there)):
            with np.load(_path(self.folder, batch), allow_pickle=False) as arrays:
                wanted = [arrays[name] for name in arrays.files]
            for place, (output, other) in enumerate(zip(outputs, wanted, strict=True)):
                errors[place] += float(np.square(output.astype(np.float64) - other).sum())
            count += len(outputs[0])
        return float(np.mean([e / count / scale for e, scale in zip(errors, self.scales, strict=True)]))


def at_inference(model: KerasModel) -> Run:
    """Return the function that runs a model."""
    return lambda inputs: model(inputs, training=False)


def _held_out(run: Run, samples: Samples, batches: int) -> Iterator[tuple[int, Outputs]]:
    """Yield the outputs on so many batches of held-out samples."""
    tf = import_tensorflow()
    for batch in range(batches):
        inputs = samples.read_held_out(batch)
        outputs = tf.nest.flatten(run(inputs if len(inputs) > 1 else inputs[0]))
        yield batch, [output.numpy() for output in outputs if output.dtype != tf.string]


def _path(folder: Path, batch: int) -> Path:
    return folder / f"outputs-{batch}.npz"
