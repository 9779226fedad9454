"""Re-fit random pruned networks: what is found is what least squares finds, on a system built in another way.

Rows are what a layer itself computes with a kernel of zeros and a single one, its inputs come from Keras' own models
of inner outputs; nothing of `stages/keras/regression` builds them.
"""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stages.keras.channels.left import channels_left
from stages.keras.layer_kinds import kind_of
from stages.keras.regression import refit as refitting
from stages.keras.regression.refit import Settings, refit
from stages.keras.regression.samples import Samples
from stages.keras.regression.system import System
from stages.keras.regression.targets import Positions
from stages.keras.tensorflow import import_keras

SPEC = importlib.util.spec_from_file_location("any_network", Path(__file__).with_name("test_any_network.py"))
any_network = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(any_network)

SAMPLES, RIDGE = 40, 1e-3


@pytest.fixture
def systems(monkeypatch):
    """Return what `refit` solves, by layer, as it goes."""
    made = {}

    def recorded(linear, *more):
        made[linear.layer.name] = System(linear, *more)
        return made[linear.layer.name]

    monkeypatch.setattr(refitting, "System", recorded)
    return made


def random_inputs(model, seed):
    return any_network.random_inputs(model, seed, SAMPLES)


def read_by(layer, model, inputs):
    """Return what the only call of a layer reads."""
    return import_keras().Model(model.inputs, layer.input)(inputs, training=False).numpy()


def linear_twin(layer, inputs):
    """Return a function from a kernel to what the layer makes of `inputs` with it: (N, P, O), and nothing added."""
    twin = type(layer).from_config(layer.get_config() | {"use_bias": False, "activation": "linear"})
    twin.build(layer.input_shape)
    before = layer.get_weights()[: len(kind_of(layer).kernels) - 1]

    def compute(kernel):
        twin.set_weights([*before, kernel])
        made = twin(inputs).numpy().astype(np.float64)
        made = np.moveaxis(made, 1, -1) if getattr(layer, "data_format", "") == "channels_first" else made
        return made.reshape(len(made), -1, made.shape[-1])

    return compute


def ones(layer, shape):
    """Yield kernels of one 1 for each group's first output: the place of the weight for each, and the kernel."""
    kernel, groups = kind_of(layer).kernels[-1], int(getattr(layer, "groups", 1))
    *taps, first, second = shape
    for tap in np.ndindex(*taps):
        if len(kernel.outputs) == 2:  # depthwise: each channel is a group
            places = [[(*tap, channel, 0) for channel in range(first)]]
        elif kernel.inputs == -1:
            places = [[(*tap, 0, channel)] for channel in range(second)]
        else:
            places = [[(*tap, c, g * (second // groups)) for g in range(groups)] for c in range(first)]
        for together in places:
            values = np.zeros(shape, np.float32)
            for place in together:
                values[place] = 1
            yield values


def rows_of(layer, inputs):
    """Return (G, N, P, U): what the layer reads for each weight of an output of each group."""
    shape = tuple(getattr(layer, kind_of(layer).kernels[-1].weight).shape)
    columns = [*map(linear_twin(layer, inputs), ones(layer, shape))]
    of_group = columns[0].shape[-1] // groups_of(layer)
    return np.stack([column[..., ::of_group] for column in columns]).transpose(3, 1, 2, 0)


def groups_of(layer):
    return int(layer.input_shape[-1]) if "Depthwise" in type(layer).__name__ else int(getattr(layer, "groups", 1))


def by_group(values, layer):
    """Return the kernel's values (G, U, O), in the order of `ones`."""
    kernel, groups = kind_of(layer).kernels[-1], groups_of(layer)
    if len(kernel.outputs) == 2:
        return np.moveaxis(values, -2, 0).reshape(groups, -1, values.shape[-1])
    if kernel.inputs == -1:
        values = np.swapaxes(values, -1, -2)
    return np.moveaxis(values.reshape(-1, groups, values.shape[-1] // groups), 1, 0)


def least_squares(rows, residual, ridge, centered):
    """Return the change (G, U, O) that brings `rows` (G, n, U) nearest to `residual` (G, n, O)."""
    changes = []
    for p, r in zip(rows, residual, strict=True):
        seen, wanted = (p - p.mean(0), r - r.mean(0)) if centered else (p, r)
        more = np.sqrt(len(seen) * ridge * (np.square(seen).mean(axis=0).mean() or 1.0)) * np.eye(seen.shape[1])
        nothing = np.zeros((len(more), wanted.shape[1]))
        changes.append(np.linalg.lstsq(np.vstack([seen, more]), np.vstack([wanted, nothing]), rcond=None)[0])
    return np.stack(changes)


def expected(layer, other, was, pruned, source, left, inputs, centered):
    """Return the layer's kernel (G, U, O) as least squares finds it, in float64.

    `was` are its weights from before; `other` is the layer in the source.
    """
    kernel, groups = len(kind_of(layer).kernels) - 1, groups_of(layer)
    rows, theirs = rows_of(layer, read_by(layer, pruned, inputs)), rows_of(other, read_by(other, source, inputs))

    def computed(rows, weights, like):
        made = rows @ by_group(weights[kernel].astype(np.float64), like)[:, None]
        made = made.transpose(1, 2, 0, 3).reshape(*made.shape[1:3], -1)
        return made + (weights[-1].astype(np.float64) if like.use_bias else 0)

    targets = computed(theirs, other.get_weights(), other)
    targets = (targets if left is None else targets[..., left]).astype(np.float32)
    residual = targets - computed(rows, was, layer)
    fitted = np.arange(SAMPLES) % 5 != 4
    residual = residual[fitted].reshape(-1, groups, residual.shape[-1] // groups).swapaxes(0, 1)
    change = least_squares(rows[:, fitted].reshape(groups, -1, rows.shape[-1]), residual, RIDGE, centered)
    return by_group(was[kernel].astype(np.float64), layer) + change


def compared(result, systems, inputs, folder):
    """Re-fit a pruned network, compare each layer that is called once with least squares; return their names."""
    was = {layer.name: layer.get_weights() for layer in result.pruned.layers}
    kept = channels_left(result.model, result.graph, result.keep)
    samples = Samples(np.arange(SAMPLES), SAMPLES, lambda places: [inputs[places]])
    settings = Settings(Positions(10_000, 0), RIDGE, folder)
    refit(result.pruned, result.model, kept, samples, settings, lambda *_: None)
    names = []
    for name, system in systems.items():
        layer = result.pruned.get_layer(name)
        if not system.kept or kind_of(layer).separable or len(layer.inbound_nodes) > 1:
            continue
        other, centered = result.model.get_layer(name), system.offset is not None
        wanted = expected(layer, other, was[name], result.pruned, result.model, kept.get(name), inputs, centered)
        ((_, found),) = system.values
        found = by_group(found, layer)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6 * np.abs(wanted).max(), err_msg=name)
        names.append(name)
    return names


def test_any_network_is_fitted_by_least_squares(keras, cut, systems, tmp_path_factory):
    seen = set()

    @settings(
        max_examples=10,
        phases=(Phase.explicit, Phase.generate),  # shrinking would fit hundreds of networks
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(
        kind=st.sampled_from(["image", "signal", "clip", "words"]),
        choices=st.lists(st.tuples(st.integers(0, 999), st.integers(2, 7)), min_size=1, max_size=4),
        seed=st.integers(0, 999),
    )
    def each(kind, choices, seed):
        systems.clear()
        result = cut(any_network.grown(*any_network.start(kind), choices), seed)
        names = compared(result, systems, random_inputs(result.model, seed), tmp_path_factory.mktemp("fit"))
        seen.update(type(result.model.get_layer(name)).__name__ for name in names)
        keras.backend.clear_session()

    each()
    assert len(seen) >= 4


def every_kind(keras, rank):
    """Build a network with each kind of layer that is fitted, once."""
    layers = keras.layers
    image = keras.Input((9, 3) if rank == 1 else (7, 6, 3) if rank == 2 else (3, 3, 2, 2))
    x = getattr(layers, f"Conv{rank}D")(8, 2, padding="same", use_bias=False, name="conv")(image)
    x = layers.LeakyReLU()(layers.BatchNormalization(name="norm")(x))
    if rank < 3:
        x = getattr(layers, f"Conv{rank}D")(6, 2, groups=2, strides=2, name="grouped")(x)
        x = getattr(layers, f"DepthwiseConv{rank}D")(2, depth_multiplier=2, name="depthwise")(
            layers.Activation("tanh")(x)
        )
        x = getattr(layers, f"SeparableConv{rank}D")(6, 2, padding="same", name="separable")(layers.LeakyReLU()(x))
    x = getattr(layers, f"Conv{rank}DTranspose")(5, 3, strides=2, name="transposed")(layers.LeakyReLU()(x))
    x = layers.Dense(6, activation="tanh", use_bias=False, name="each")(layers.LeakyReLU()(x))
    x = layers.Flatten()(x) if rank < 3 else layers.GlobalMaxPooling3D()(x)
    x = layers.Dense(7, activation="tanh", name="hidden")(x)
    return keras.Model(image, layers.Dense(3, activation="softmax", name="head")(x))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_every_kind_of_layer(keras, cut, systems, tmp_path, rank):
    result = cut(every_kind(keras, rank))
    names = compared(result, systems, random_inputs(result.model, 1), tmp_path)
    assert set(names) >= {"transposed", "each"} | ({"grouped", "depthwise", "head"} if rank < 3 else set())
    assert systems["conv"].error_before < 1e-12  # reads what it read, and makes what it made
    assert not systems["conv"].kept


def test_a_separable_layer_is_fitted_no_worse_than_its_pointwise_kernel_alone(
    keras, cut, systems, tmp_path, monkeypatch
):
    result = cut(every_kind(keras, 2))
    alone = keras.models.clone_model(result.pruned)
    alone.set_weights(result.pruned.get_weights())
    inputs = random_inputs(result.model, 1)
    compared(result, systems, inputs, tmp_path / "both")
    both = systems["separable"].error_after
    monkeypatch.setattr(refitting, "MOST_WINDOWED", 0)
    compared(SimpleNamespace(**vars(result) | {"pruned": alone}), systems, inputs, tmp_path / "pointwise")
    assert both < systems["separable"].error_after < systems["separable"].error_before
