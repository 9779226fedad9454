"""Check that rounding noise in a reference is recognized: by the effect of its inputs' last bits."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.keras.normal_form import relative_difference
from stages.keras.rounding import ROOM, difference_beyond_rounding, rounding_noise
from stages.keras.tensorflow import import_keras

CONSTANT = np.full((2, 12, 8), 3.46, np.float32)
VARIED = np.random.default_rng(0).standard_normal((2, 12, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def normalized() -> Any:
    """Build a normalization of a constant, which leaves nothing but rounding noise: zero over epsilon."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    x = keras.Input((12, 8))
    norm = keras.layers.GroupNormalization(-1, epsilon=1e-6)(x)
    return partial(keras.Model(x, keras.layers.Dense(6, use_bias=False)(norm)), training=False)


def exactly(x: Any, scale: float = 1.0) -> Any:
    """Compute the same normalization in float64, each channel a group; then multiply by `scale`."""
    x = x.astype(np.float64)
    return scale * (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-6)


def test_what_the_last_bits_of_the_inputs_explain_is_no_difference(normalized: Any) -> None:
    kernel = normalized.func.layers[-1].kernel.numpy()
    expected, actual = normalized(CONSTANT), exactly(CONSTANT) @ kernel
    assert relative_difference(expected, actual) > 0.5
    assert difference_beyond_rounding(normalized, [CONSTANT], expected, actual) == 0.0


def test_another_function_differs_all_the_same(normalized: Any) -> None:
    kernel = normalized.func.layers[-1].kernel.numpy()
    expected = normalized(VARIED)
    assert difference_beyond_rounding(normalized, [VARIED], expected, exactly(VARIED) @ kernel) < 1e-5
    wrong = exactly(VARIED, scale=1.001) @ kernel
    assert difference_beyond_rounding(normalized, [VARIED], expected, wrong) == pytest.approx(1e-3, rel=0.05)
    assert np.isnan(difference_beyond_rounding(normalized, [VARIED], expected, np.full_like(wrong, np.nan)))


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-7, 10), st.integers(0, 2**32 - 1))
def test_it_never_exceeds_the_plain_difference_and_forgives_noise_alone(size: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, error = rng.standard_normal((3, 5)).astype(np.float32), size * rng.standard_normal((3, 2))
    kernel = rng.standard_normal((5, 2)).astype(np.float32)

    def run(arrays: list[Any]) -> Any:
        return arrays[0] @ kernel

    expected = run([x])
    plain, found = (
        relative_difference(expected, expected + error),
        difference_beyond_rounding(run, [x], expected, expected + error),
    )
    assert found <= plain
    if np.abs(error).max() > ROOM * max(rounding_noise(run, [x], expected)[0]):
        assert found == pytest.approx(plain)


def test_whole_numbers_have_no_last_bits() -> None:
    def run(arrays: list[Any]) -> Any:
        return arrays[0] / 3

    whole = np.arange(6).reshape(2, 3)
    assert rounding_noise(run, [whole], run([whole]))[0].tolist() == [0.0, 0.0]
    assert (rounding_noise(run, [whole.astype(np.float32)], run([whole]))[0] > 0).all()
