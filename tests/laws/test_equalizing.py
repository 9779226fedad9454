"""Equalize random networks as far as it goes: outputs stay, on samples that no step has looked at."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.keras.closing import before_squashing
from stages.keras.equalizing import absorbing, cross_layer
from stages.keras.equalizing.equalize import equalized
from stages.prune.surgery.random_weights import randomize_weights

SPEC = importlib.util.spec_from_file_location("any_network", Path(__file__).with_name("test_any_network.py"))
any_network = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(any_network)


@pytest.fixture
def eager(monkeypatch):
    """Take every factor and every offset, whether it helps or not."""
    monkeypatch.setattr(cross_layer, "WORTH", np.inf)
    monkeypatch.setattr(cross_layer, "EXPONENTS", (0.5,))
    monkeypatch.setattr(absorbing, "WORTH", np.inf)


def uneven(model, seed):
    """Give the model random weights, and normalizations scales of any sign and size, some of them zero."""
    rng = np.random.default_rng(seed)
    for variable in randomize_weights(model, seed).weights:
        if "gamma" in variable.name:
            signs = rng.choice([-1, 0, 1, 1, 1], variable.shape)
            variable.assign(signs * rng.lognormal(0, 1, variable.shape))
    return model


def outputs(model, inputs):
    with before_squashing(model) as linear:
        return np.asarray(linear(inputs, training=False))


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    kind=st.sampled_from(["image", "signal", "clip", "words"]),
    choices=st.lists(st.tuples(st.integers(0, 999), st.integers(2, 7)), min_size=2, max_size=7),
    seed=st.integers(0, 999),
)
def test_any_network_computes_the_same(keras, eager, kind, choices, seed):
    model = uneven(any_network.grown(*any_network.start(kind), choices), seed)
    samples = any_network.random_inputs(model, seed, 40)
    made = equalized(model, [samples])
    assert made.left_out == ()
    wanted = outputs(model, samples)
    np.testing.assert_allclose(outputs(made.model, samples), wanted, atol=2e-4 * np.abs(wanted).max())
    keras.backend.clear_session()
