"""Check calibration sets as bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from stages.samples.calibration import decode_samples, encode_samples


def test_samples_come_back_and_their_bytes_follow_from_the_numbers(tmp_path: Path) -> None:
    samples = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    data = encode_samples(samples)
    assert data == encode_samples(np.asfortranarray(samples)) == encode_samples(samples.astype(">f4"))
    assert hashlib.sha256(data).hexdigest() == "a34bbbba96329a08c782329c71b560041ed51e1eae9baae38e909c43105fdc30"
    path = tmp_path / "blob"
    path.write_bytes(data)
    np.testing.assert_array_equal(decode_samples(path), samples)
