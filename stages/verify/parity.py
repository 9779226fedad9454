"""How far two models' outputs are from each other: float arrays (N, …) of equal shapes, the reference first."""

from __future__ import annotations

from typing import Any


def max_abs_diff(reference: Any, actual: Any) -> float:
    """The largest absolute difference of any output."""
    return float(_sample_diffs(reference, actual).max())


def mean_abs_diff(reference: Any, actual: Any) -> float:
    """The mean absolute difference over all outputs."""
    import numpy as np

    return float(np.abs(_rows(actual) - _rows(reference)).mean())


def cosine(reference: Any, actual: Any) -> float:
    """The mean over samples of the cosine between the two output vectors; 1 for a pair of zeros, 0 for one zero."""
    import numpy as np

    a, b = _rows(reference), _rows(actual)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    products = np.einsum("ij,ij->i", a, b)
    cosines = np.divide(products, lengths, out=both_zero.astype(np.float64), where=lengths > 0)
    return float(np.clip(cosines, -1, 1).mean())


def top1_agreement(reference: Any, actual: Any) -> float:
    """The share of samples of which both models name the same class: the largest of (N, classes)."""
    import numpy as np

    return float(np.mean(np.argmax(reference, axis=-1) == np.argmax(actual, axis=-1)))


def worst_sample(reference: Any, actual: Any) -> int:
    """The index of the sample with the largest absolute difference."""
    return int(_sample_diffs(reference, actual).argmax())


def _sample_diffs(reference: Any, actual: Any) -> Any:
    import numpy as np

    return np.abs(_rows(actual) - _rows(reference)).max(axis=1)


def _rows(outputs: Any) -> Any:
    import numpy as np

    return np.reshape(outputs, (len(outputs), -1)).astype(np.float64)
