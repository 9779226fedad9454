"""Check shapes that fit, and calibration sets as bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from pipeline.records.artifacts import TensorSpec
from stages.samples.batches import misfit
from stages.samples.calibration import decode_samples, encode_samples


@pytest.mark.parametrize(
    ("batch", "wanted", "fits"),
    [
        ((5, 28, 28, 1), (None, 28, 28, 1), True),
        ((5, 28, 28, 1), (8, 28, 28, 1), True),
        ((5, 40, 50, 3), (None, None, None, 3), True),
        ((5, 28, 28), (None, 28, 28, 1), False),
        ((5, 28, 28, 3), (None, 28, 28, 1), False),
        ((5,), (None, 1), False),
    ],
)
def test_misfit(batch: tuple[int, ...], wanted: tuple[int | None, ...], fits: bool) -> None:
    reason = misfit(batch, TensorSpec(name="image", shape=wanted, dtype="float32"))
    assert (reason is None) == fits


def test_the_reason_names_both_shapes() -> None:
    spec = TensorSpec(name="image", shape=(None, None, 28, 1), dtype="float32")
    assert misfit((5, 28, 28), spec) == "samples are 28×28, the model's input 'image' takes ?×28×1"


def test_samples_come_back_and_their_bytes_follow_from_the_numbers(tmp_path: Path) -> None:
    samples = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    data = encode_samples(samples)
    assert data == encode_samples(np.asfortranarray(samples)) == encode_samples(samples.astype(">f4"))
    assert hashlib.sha256(data).hexdigest() == "a34bbbba96329a08c782329c71b560041ed51e1eae9baae38e909c43105fdc30"
    path = tmp_path / "blob"
    path.write_bytes(data)
    np.testing.assert_array_equal(decode_samples(path), samples)
