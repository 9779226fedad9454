"""Check shapes that fit."""

from __future__ import annotations

import pytest

from pipeline.records.artifacts import TensorSpec
from stages.samples.batches import misfit, spread_over


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


def test_samples_are_spread_from_the_first_to_the_last():
    assert spread_over(3, 9).tolist() == [0, 1, 2]
    assert spread_over(101, 5).tolist() == [0, 25, 50, 75, 100]
    assert spread_over(7, 3).tolist() == [0, 3, 6]
    assert spread_over(5, 1).tolist() == [0]
