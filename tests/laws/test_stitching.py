"""Stitch random networks: whatever goes is read no more, and what comes back is as it was."""

import importlib.util
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stages.keras.channels.labels import Role
from stages.prune.choosing.stitched import Stitched
from stages.prune.ranking.criterion import Question
from stages.samples.batches import unheard
from stages.samples.model_samples import samples_of

SPEC = importlib.util.spec_from_file_location("any_network", Path(__file__).with_name("test_any_network.py"))
any_network = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(any_network)

SAMPLES = 24


def disturb(model, graph, keep):
    """Change the weights with which the network makes the channels that went."""
    for slot in graph.slots:
        gone = ~keep[slot.channels]
        if slot.role is Role.PRODUCER and gone.any():
            variable = slot.variable(model.get_layer(slot.layer))
            value = variable.numpy()
            value[(slice(None),) * slot.axis + (gone,)] += 1
            variable.assign(value)


@settings(
    max_examples=12,
    phases=(Phase.explicit, Phase.generate),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    kind=st.sampled_from(["image", "signal", "clip", "words"]),
    choices=st.lists(st.tuples(st.integers(0, 999), st.integers(2, 7)), min_size=2, max_size=5),
    seed=st.integers(0, 999),
)
def test_what_goes_from_any_network_is_read_no_more(keras, cut, tmp_path_factory, kind, choices, seed):
    result = cut(any_network.grown(*any_network.start(kind), choices), seed)
    model, inputs = result.model, any_network.random_inputs(result.model, seed, SAMPLES)
    question = Question(model, result.graph.prunable, seed, samples_of(model, inputs), unheard)
    stitched = Stitched.of(question, tmp_path_factory.mktemp("stitched"))
    stitched.keep(result.keep)
    made = stitched.model(inputs, training=False).numpy()
    assert np.isfinite(made).all()
    weights = stitched.model.get_weights()
    disturb(stitched.model, result.graph, result.keep)
    np.testing.assert_allclose(stitched.model(inputs, training=False).numpy(), made, rtol=1e-4, atol=1e-5)
    stitched.model.set_weights(weights)
    stitched.keep(np.ones_like(result.keep))
    for ours, theirs in zip(stitched.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    keras.backend.clear_session()
