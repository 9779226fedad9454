import numpy as np

from stages.keras.channels.groups import channel_groups
from stages.prune.surgery.configuration_changes import Change, argument_changes, configuration_changes, with_changes


def test_entries_are_changed_in_a_copy_by_their_path():
    settings = {"a": [1, {"b": (2, 3)}], "c": 4}
    changed = with_changes(
        settings, [Change(("a", 1, "b", 0), lambda value: value * 10), Change(("c",), lambda _: None)]
    )
    assert changed == {"a": [1, {"b": (20, 3)}], "c": None}
    assert settings == {"a": [1, {"b": (2, 3)}], "c": 4}


def test_configurations_get_the_new_number_of_channels_and_arguments_their_values(keras):
    vector = keras.Input((3,))
    hidden = keras.layers.Dense(4, name="hidden")(vector)
    shifted = hidden + np.float32([1, 2, 3, 4])
    model = keras.Model(vector, keras.layers.Dense(2, name="head")(shifted))
    graph = channel_groups(model)
    keep = np.ones(graph.count, bool)
    keep[next(group for group in graph.prunable if group.name == "hidden").channels[[0, 2]]] = False
    layer = model.get_layer("hidden")
    assert with_changes(layer.get_config(), configuration_changes(graph, "hidden", keep))["units"] == 2
    assert argument_changes(graph, "hidden", keep) == []
    (operation,) = (layer for layer in model.layers if "add" in layer.name)
    node = operation.inbound_nodes[0]
    changes = argument_changes(graph, operation.name, keep)
    assert configuration_changes(graph, operation.name, keep) == []
    (change,) = changes
    args, kwargs = with_changes((node.call_args, node.call_kwargs), changes)
    kept = args[change.path[1]] if change.path[0] == 0 else kwargs[change.path[1]]
    assert np.asarray(kept).tolist() == [2, 4]
