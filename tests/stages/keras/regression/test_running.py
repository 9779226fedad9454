import numpy as np
import pytest

from stages.keras.regression.linear_layers import is_linear
from stages.keras.regression.running import WORTH_A_GRAPH, Network, Walk
from stages.keras.regression.steps import steps_of
from stages.keras.tensorflow import import_keras, import_tensorflow

RNG = np.random.default_rng(0)


def residual():
    layers = import_keras().layers
    image = import_keras().Input((6, 6, 2))
    x = layers.Conv2D(3, 3, padding="same", name="stem")(image)
    x = layers.Dropout(0.9)(layers.BatchNormalization()(x))
    y = layers.Conv2D(3, 3, padding="same", name="left")(x)
    x = layers.Concatenate()([layers.Add()([x, y]), layers.Conv2D(2, 1, name="right")(x)])
    return import_keras().Model(image, layers.Dense(3)(layers.Flatten()(x))), (6, 6, 2)


def words():
    layers = import_keras().layers
    source = import_keras().Input((5,), dtype="int32")
    x = layers.Embedding(4, 3, mask_zero=True)(source)
    x = layers.Dense(4, name="each")(x)
    return import_keras().Model(source, layers.Dense(2)(layers.LSTM(3)(layers.Dense(3, name="other")(x)))), (5,)


def shared():
    layers = import_keras().layers
    vector = import_keras().Input((4,))
    twice = layers.Dense(4, name="twice", activation="relu")
    x = layers.Dense(4, name="between")(twice(vector))
    return import_keras().Model(vector, layers.Dense(2, name="head")(twice(x))), (4,)


def operations():
    tf = import_tensorflow()
    vector = import_keras().Input((4,))
    x = import_keras().layers.Dense(4)(vector)
    x = tf.concat([x * 2.0 + vector, tf.nn.relu(x)], axis=-1)
    first, second = tf.split(x, 2, axis=-1)
    return import_keras().Model(vector, import_keras().layers.Dense(2)(first - second)), (4,)


def several():
    layers = import_keras().layers
    one, other = import_keras().Input((3,), name="one"), import_keras().Input((2,), name="other")
    x = layers.Concatenate()([layers.Dense(4)(one), layers.Dense(4)(other)])
    return import_keras().Model([one, other], [layers.Dense(2, name="a")(x), x, other]), (3,), (2,)


MODELS = (residual, words, shared, operations, several)


def sampled(shapes, count=5):
    return [RNG.integers(0, 4, (count, *shape)).astype(np.float32) for shape in shapes]


def stepped(model, batches, folder, **room):
    """Walk over all steps and return the tensors that each linear layer read in each batch, by the call's name."""
    network = Network.of(model)
    sizes = {layer.name: 1 for layer in model.layers if is_linear(layer)}
    walk = Walk(network, len(batches), batches.__getitem__, folder, **room)
    found, ran = {}, []
    real = Network.run

    def counted(self, places, *more, **others):
        ran.extend(places)
        return real(self, places, *more, **others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Network, "run", counted)
        for step in steps_of(network.calls, sizes, 0):
            for batch, inputs in walk.inputs_at(step):
                found |= {(network.names[place], batch): tensor.numpy() for place, tensor in inputs.items()}
    walk.close()
    return found, ran


def inner(model, network, batches):
    """Return the same tensors by Keras' own run of a model of them."""
    places = [place for place, node in enumerate(network.nodes) if is_linear(node.layer)]
    tensors = [network.nodes[place].keras_inputs[0] for place in places]
    reader = import_keras().Model(model.inputs, tensors)
    found = {}
    for batch, arrays in enumerate(batches):
        outputs = reader(arrays if len(arrays) > 1 else arrays[0], training=False)
        outputs = import_tensorflow().nest.flatten(outputs)
        found |= {(network.names[place], batch): out.numpy() for place, out in zip(places, outputs, strict=True)}
    return found


@pytest.mark.parametrize("room", [{"disk": 0, "memory": 0}, {"memory": 0}, {}], ids=["nowhere", "disk", "memory"])
@pytest.mark.parametrize("make", MODELS)
def test_every_layer_reads_what_keras_gives_it(make, room, tmp_path, randomize):
    model, *shapes = make()
    model = randomize(model)
    batches = [sampled(shapes), sampled(shapes, 3)]
    network = Network.of(model)
    found, ran = stepped(model, batches, tmp_path, **room)
    wanted = inner(model, network, batches)
    assert found.keys() == wanted.keys()
    for key, tensor in wanted.items():
        np.testing.assert_array_equal(found[key], tensor, err_msg=str(key))
    assert not list(tmp_path.iterdir())
    if "disk" not in room and make is not shared:  # whose second call is computed as a draft before
        assert len(ran) == len(set(ran)) * len(batches)


@pytest.mark.parametrize("make", MODELS)
def test_many_batches_run_as_a_graph_where_it_loses_nothing(make, tmp_path, randomize):
    model, *shapes = make()
    model = randomize(model)
    batches = [sampled(shapes) for _ in range(WORTH_A_GRAPH)] + [sampled(shapes, 3)]
    network = Network.of(model)
    found, ran = stepped(model, batches, tmp_path)
    assert len(ran) < len(network.calls) * len(batches)
    for key, tensor in inner(model, network, batches).items():
        np.testing.assert_allclose(found[key], tensor, rtol=1e-5, atol=1e-6, err_msg=str(key))


def test_a_shape_that_a_part_hands_on_is_no_reason_to_fail(tmp_path):
    """A layer behind it needs the number of channels, which the border of a graph would not let it see."""
    tf, keras = import_tensorflow(), import_keras()
    image = keras.Input((4, 4, 2))
    shape = tf.shape(image)
    x = keras.layers.Dense(2, name="first")(image)
    x = tf.reshape(x, tf.stack([shape[0], 2, 8, 2]))
    model = keras.Model(image, keras.layers.Conv2D(3, 1, name="last")(x))
    batches = [sampled([(4, 4, 2)]) for _ in range(WORTH_A_GRAPH)]
    found, _ = stepped(model, batches, tmp_path)
    assert found["last", 0].shape == (5, 2, 8, 2)


def test_the_whole_network_is_the_model_bit_for_bit():
    for make in MODELS:
        model, *shapes = make()
        arrays = sampled(shapes)
        network = Network.of(model)
        tensors = network.start(arrays)
        ends = [str(id(tensor)) for tensor in model.outputs]
        network.run(range(len(network.calls)), tensors, ends)
        outputs = import_tensorflow().nest.flatten(model(arrays if len(arrays) > 1 else arrays[0], training=False))
        for key, output in zip(ends, outputs, strict=True):
            np.testing.assert_array_equal(tensors[key], output)


def test_tensors_that_nobody_reads_any_more_are_dropped():
    model, *shapes = residual()
    network = Network.of(model)
    tensors = network.start(sampled(shapes))
    network.run(range(len(network.calls)), tensors)
    assert not tensors


def test_inputs_take_the_type_and_rank_of_the_model():
    model, *shapes = words()
    (tensor,) = Network.of(model).start(sampled(shapes)).values()
    assert tensor.dtype == "int32"
    vector = import_keras().Input((1,))
    flat = import_keras().Model(vector, import_keras().layers.Dense(2)(vector))
    (tensor,) = Network.of(flat).start([np.arange(3, dtype=np.uint8)]).values()
    assert (tensor.shape, tensor.dtype) == ((3, 1), "float32")


def test_each_call_has_a_name_of_its_own():
    model, _ = shared()
    assert Network.of(model).names == ("twice", "between", "twice/1", "head")


def test_what_hears_gets_first_input_and_output_of_each_call():
    model, *shapes = shared()
    network, heard = Network.of(model), {}
    network.run(
        range(len(network.calls)),
        network.start(sampled(shapes)),
        hear=lambda place, given, made: heard.update({network.names[place]: (given, made)}),
    )
    assert list(heard) == list(network.names)
    assert heard["between"][0] is heard["twice"][1]


def test_weights_that_change_at_a_stop_count_from_there_on(tmp_path):
    model, *shapes = shared()
    batches, network = [sampled(shapes)], Network.of(model)
    walk = Walk(network, 1, batches.__getitem__, tmp_path)
    for step in steps_of(network.calls, {"twice": 1, "between": 1, "head": 1}, 0):
        ((_, inputs),) = walk.inputs_at(step)
        tensors = {network.names[place]: tensor.numpy() for place, tensor in inputs.items()}
        np.testing.assert_array_equal(tensors[step.layers[0]], inner(model, network, batches)[step.layers[0], 0])
        layer = model.get_layer(step.layers[0])
        layer.kernel.assign(layer.kernel * 2)
    walk.close()


def test_text_is_computed_again(tmp_path):
    tf, keras = import_tensorflow(), import_keras()
    vector = keras.Input((3,))
    text = tf.strings.length(tf.strings.as_string(keras.layers.Dense(3, name="first")(vector)))
    model = keras.Model(vector, keras.layers.Dense(2, name="last")(tf.cast(text, "float32")))
    batches = [sampled([(3,)])]
    found, _ = stepped(model, batches, tmp_path)
    assert found["last", 0].shape == (5, 3)
