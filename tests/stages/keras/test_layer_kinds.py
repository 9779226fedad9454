"""Hold each entry of the table against Keras' layer of that name."""

from math import prod

import numpy as np
import pytest

from stages.keras.channels.groups import channel_groups
from stages.keras.channels.labels import Role
from stages.keras.graph_products import products_of_node
from stages.keras.layer_kinds import KINDS, UNKNOWN, kind_of
from stages.keras.macs import count_macs, kernels_of
from stages.keras.tensorflow import import_keras, import_tensorflow
from stages.prune.measured.probing import operators_of
from stages.prune.surgery.rebuild import spare_tracing

CHANNELS, FILTERS, SIZE = 4, 6, 5

ARGUMENTS = {
    "Dense": (FILTERS,),
    "EinsumDense": ("ab,bc->ac", FILTERS),
    "Embedding": (7, FILTERS),
    "SimpleRNN": (3,),
    "GRU": (3,),
    "LSTM": (3,),
    "MultiHeadAttention": (2, 3),
    "Dot": (1,),
    "Activation": ("relu",),
    "Dropout": (0.5,),
    "Reshape": ((-1,),),
    "RandomFourierFeatures": (3,),
}
PAIRS = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate", "Dot")
PAIRS += ("MultiHeadAttention", "Attention", "AdditiveAttention")
FLAT = ("Dense", "EinsumDense", "Dot", "RandomFourierFeatures")
STEPS = ("RNN", "SimpleRNN", "GRU", "LSTM", "Bidirectional", "MultiHeadAttention", "Attention", "AdditiveAttention")
LOOPS = ("RNN", "SimpleRNN", "GRU", "LSTM", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")


def layer_of(name):
    """Return a layer of that kind with settings that its axes show: no two sizes are equal."""
    layers = import_keras().layers
    if name in ("TFOpLambda", "SlicingOpLambda"):
        source = import_keras().Input((SIZE, CHANNELS))
        return (source * 2.0 if name == "TFOpLambda" else source[:, 1:])._keras_history.layer
    inner = {"RNN": lambda: layers.SimpleRNNCell(3), "Bidirectional": lambda: layers.GRU(3)}
    inner |= {"SpectralNormalization": lambda: layers.Dense(FILTERS), "Lambda": lambda: lambda x: x * 2}
    home = layers if hasattr(layers, name) else layers.experimental
    if name in inner:
        return getattr(home, name)(inner[name]())
    if "Depthwise" in name:
        return getattr(home, name)(3, depth_multiplier=2)
    if "Conv" in name or name.startswith("Locally"):
        return getattr(home, name)(FILTERS, 3)
    return getattr(home, name)(*ARGUMENTS.get(name, ()))


def shape_of(name):
    """Return the shape of an input that the kind takes."""
    if name in FLAT or name == "SpectralNormalization":
        return (CHANNELS,)
    if name == "Embedding":
        return (SIZE,)
    if name in STEPS:
        return (SIZE, CHANNELS)
    rank = next((number for number in (1, 2, 3) if f"{number}D" in name), 2)
    return (2,) * name.startswith("ConvLSTM") + (SIZE,) * rank + (CHANNELS,)


def called(name):
    """Return a layer of the kind, and a model in which it is called once."""
    keras, layer = import_keras(), layer_of(name)
    inputs = [keras.Input(shape_of(name)) for _ in range(2 if name in PAIRS else 1)]
    outputs = layer(*inputs) if name == "MultiHeadAttention" or len(inputs) == 1 else layer(inputs)
    return layer, keras.Model(inputs, outputs)


def before(name):
    """Return a layer that makes the channels which one of the kind reads, at each position."""
    layers, rank = import_keras().layers, len(shape_of(name)) - 1
    return getattr(layers, f"Conv{rank}D")(CHANNELS, 1) if rank else layers.Dense(CHANNELS)


def named(**wanted):
    return [
        name for name, kind in KINDS.items() if all(bool(getattr(kind, key)) == want for key, want in wanted.items())
    ]


@pytest.mark.parametrize("name", KINDS)
def test_the_entry_is_of_keras_own_class(name):
    layer = layer_of(name)
    assert (type(layer).__name__, type(layer).__module__.partition(".")[0]) == (name, "tf_keras")
    assert kind_of(layer) is KINDS[name]
    assert KINDS[name] != UNKNOWN
    assert kind_of(import_keras().layers.Softmax()) is UNKNOWN


@pytest.mark.parametrize("name", named(kernels=True))
def test_kernels_have_their_channels_along_these_axes(name):
    layer, model = called(name)
    read, made = CHANNELS, model.output_shape[-1]
    weights = [weight for weight in layer.weights if weight is not getattr(layer, "bias", None)]
    assert [id(getattr(layer, kernel.weight)) for kernel in KINDS[name].kernels] == [id(one) for one in weights]
    for kernel, weight in zip(KINDS[name].kernels, weights, strict=True):
        shape = tuple(weight.shape)
        last = kernel is KINDS[name].kernels[-1]
        if kernel.inputs is not None:
            assert shape[kernel.inputs] == read
        read = prod(shape[axis] for axis in kernel.outputs)
        assert read == (made if last else CHANNELS)


@pytest.mark.parametrize("name", named(kernels=True))
def test_rules_of_pruning_hold_channels_along_the_same_axes(name):
    keras = import_keras()
    entry = source = keras.Input(shape_of(name))
    if name != "Embedding":  # its integers hold no channels
        source = before(name)(entry)
    fresh = layer_of(name)
    model = keras.Model(entry, keras.layers.Dense(2)(keras.layers.Flatten()(fresh(source))))
    slots = [slot for slot in channel_groups(model).slots if slot.layer == fresh.name and slot.weight != "bias"]
    assert {slot.weight for slot in slots} == {kernel.weight for kernel in KINDS[name].kernels}
    for kernel in KINDS[name].kernels:
        rank = len(getattr(fresh, kernel.weight).shape)
        for slot in (slot for slot in slots if slot.weight == kernel.weight):
            expected = {Role.CONSUMER: (kernel.inputs,), Role.PRODUCER: kernel.outputs}
            assert slot.axis - rank in expected.get(slot.role, (kernel.inputs,))


@pytest.mark.parametrize("name", named(absorbs=True))
def test_a_factor_along_the_output_axes_is_one_on_the_outputs(name):
    layer, model = called(name)
    assert layer.use_bias
    assert layer.activation is import_keras().activations.linear
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *shape_of(name))).astype(np.float32)
    before = model(x).numpy()  # the bias is zero
    factor = np.arange(1, before.shape[-1] + 1)
    *others, kernel, bias = layer.get_weights()
    shape = [1] * kernel.ndim
    for axis in KINDS[name].kernels[-1].outputs:
        shape[axis] = kernel.shape[axis]
    layer.set_weights([*others, kernel * factor.reshape(shape), bias + factor])
    np.testing.assert_allclose(model(x).numpy(), before * factor + factor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", named(folds=True))
def test_what_folds_is_a_factor_and_an_offset_of_each_channel(name):
    layer, model = called(name)
    rng = np.random.default_rng(0)
    layer.set_weights([np.abs(rng.normal(size=weight.shape)) + 0.1 for weight in layer.weights])
    x = rng.normal(size=(2, *shape_of(name))).astype(np.float32)
    scale = layer.gamma / np.sqrt(layer.moving_variance + layer.epsilon)
    expected = x * scale + layer.beta - layer.moving_mean * scale
    np.testing.assert_allclose(model(x, training=False).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", named(activates=True))
def test_an_activation_bends_each_value_alone_and_names_no_function(name):
    layer, model = called(name)
    assert not callable(getattr(layer, "activation", None))
    x = np.linspace(-2, 2, prod(shape_of(name)), dtype=np.float32).reshape(1, *shape_of(name))
    y = model(x).numpy()
    assert y.shape == x.shape
    assert (y[x > 1] == x[x > 1]).all()
    assert (y[x < 0] != x[x < 0]).all()


@pytest.mark.parametrize("name", named(by_channel=True))
def test_what_is_by_channel_has_weights_for_each(name):
    layer, model = called(name)
    assert {weight.shape[-1] for weight in layer.weights} == {CHANNELS}
    x = np.ones((1, *shape_of(name)), np.float32)
    other = x.copy()
    other[..., 1] = -3
    changed = (model(x, training=False) != model(other, training=False)).numpy().reshape(-1, CHANNELS)
    assert changed.any(axis=0).tolist() == [False, True, False, False]


@pytest.mark.parametrize("name", named(probed=True))
def test_probes_take_what_the_layer_takes(name):
    keras, kind = import_keras(), type(layer_of(name))
    config = layer_of(name).get_config()
    config |= {key: value for key, value in {"padding": "same", "depth_multiplier": 1}.items() if key in config}
    entry, layer = keras.Input(shape_of(name)), kind.from_config(config)
    model = keras.Model(entry, keras.layers.Dense(2)(layer(before(name)(entry))))
    found = [one for one in operators_of(model, channel_groups(model)) if one.layer == layer.name]
    assert [one.whole.kind for one in found] == [kernel.probe for kernel in KINDS[name].kernels]
    alone = keras.Model(entry, kind.from_config(config)(entry))
    assert sum(one.whole.macs for one in found) == count_macs(alone)


@pytest.mark.parametrize("name", named(by_shape=True))
def test_by_shape_a_layer_is_called_with_the_shape_and_the_weights_that_tracing_gives(name):
    layer, model = called(name)
    fresh = type(layer).from_config(layer.get_config())
    given = [np.random.default_rng(0).normal(size=weight.shape).astype(np.float32) for weight in layer.weights]
    assert spare_tracing(fresh, given)
    inputs = model.inputs if name in PAIRS else model.inputs[0]
    assert tuple(fresh(inputs).shape) == tuple(model.output_shape)
    for one, other in zip(fresh.get_weights(), given, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [w.shape for w in fresh.weights] == [w.shape for w in layer.weights]


@pytest.mark.parametrize("name", sorted({*named(traced=False)} - {*LOOPS, "AdditiveAttention"}))
def test_a_formula_counts_what_tensorflow_s_graph_multiplies(name):
    """The scale of an additive attention is a product of the paper's, and none of the graph's."""
    layer, model = called(name)
    found = products_of_node(layer.inbound_nodes[-1], [(1, *shape_of(name))] * len(model.inputs))
    assert found.untold == ()
    assert count_macs(model) == found.number
    assert bool(found.number) == (KINDS[name].work is not None)


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_counts_its_kernels_at_each_step(name):
    _, model = called(name)
    assert count_macs(model) > sum(prod(weight.shape) for weight in kernels_of(model)) > 0


def test_what_runs_any_code_is_counted_in_its_graph():
    tf, keras = import_tensorflow(), import_keras()
    assert not [name for name in named(traced=True) if KINDS[name].work or KINDS[name].kernels]
    entry = keras.Input((SIZE, CHANNELS))
    squared = keras.layers.Lambda(lambda x: tf.matmul(x, x, transpose_b=True))(entry)
    assert count_macs(keras.Model(entry, squared)) == SIZE * SIZE * CHANNELS


def test_looked_up_tables_are_kernels_that_nothing_multiplies():
    layer, model = called("Embedding")
    assert [id(one) for one in kernels_of(model)] == [id(layer.embeddings)]
    assert count_macs(model) == 0
