import pytest

from stages.prune.inspection import inspect_model


def test_layers_groups_and_shares_are_those_of_the_network(keras):
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(10, 3, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    inner = keras.Sequential([keras.Input((6, 6, 10)), keras.layers.Conv2D(4, 1, name="inside")], name="nested")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(inner(x))
    model = keras.Model(image, keras.layers.Dense(2, name="head")(x), name="net")
    found = inspect_model(model, "model.keras")
    lines, groups = ({line.name: line for line in part} for part in (found.layers, found.groups))
    assert list(lines) == ["image", "conv", "norm", "inside", "pool", "head"]  # without the nested model
    assert lines["conv"].macs == 6 * 6 * 27 * 10
    assert (lines["conv"].output, lines["conv"].groups) == ((6, 6, 10), ("conv",))
    assert found.macs == sum(line.macs for line in found.layers)
    assert found.params == sum(line.params for line in found.layers) == model.count_params()
    conv = groups["conv"]
    assert (conv.channels, conv.makers, conv.pass_through, conv.consumers) == (10, ("conv",), ("norm",), ("inside",))
    assert groups["head"].frozen == ("head: model output",)
    left = 6 * 6 * 27 + 6 * 6 + 2  # one channel of conv, one of inside
    assert found.prunable_macs_share == pytest.approx(1 - left / found.macs)
    assert found.macs_exact


def test_a_layer_called_on_two_sizes_has_no_one_output(keras):
    shared = keras.layers.Conv2D(4, 1, name="shared")
    inputs = [keras.Input((size, size, 3)) for size in (4, 6)]
    pooled = [keras.layers.GlobalAveragePooling2D()(shared(image)) for image in inputs]
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Add()(pooled)))
    line = next(line for line in inspect_model(model, "m").layers if line.name == "shared")
    assert line.output is None
    assert line.macs == (16 + 36) * 3 * 4
