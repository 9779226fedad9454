"""Test doubts about calibration samples."""

from __future__ import annotations

import numpy as np
import pytest

from stages.quantize.calibration import digest_of, doubts_about

MANY = np.random.default_rng(0).uniform(-1, 1, (12, 4, 4, 1)).astype(np.float32)


def test_enough_different_samples_leave_no_doubt() -> None:
    assert doubts_about(MANY) == ()
    assert doubts_about(MANY[:10]) == ()


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (MANY[:9], "9 calibration samples are few"),
        (np.zeros((12, 4, 4, 1), np.float32), "one constant"),
        (np.arange(12, dtype=np.float32)[:, None] * np.ones((12, 16), np.float32), "one constant"),
        (np.repeat(MANY[:1], 12, axis=0), "all calibration samples are the same"),
    ],
)
def test_each_reason_for_doubt_is_named_alone(samples: np.ndarray, says: str) -> None:
    (doubt,) = doubts_about(samples)
    assert says in doubt


def test_one_constant_image_is_both_few_and_constant() -> None:
    assert len(doubts_about(np.ones((1, 4, 4, 1), np.float32))) == 2


def test_samples_are_known_by_their_numbers_shapes_and_order_of_inputs() -> None:
    other = MANY[:, :2]
    assert digest_of([MANY, other]) == digest_of([MANY.copy(), np.asfortranarray(other)])
    assert len({digest_of(arrays) for arrays in ([MANY], [MANY, other], [other, MANY], [MANY.reshape(12, 16)])}) == 4
