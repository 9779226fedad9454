import numpy as np

from stages.prune.analysis.groups import channel_groups
from stages.prune.surgery.edits import Edit, argument_edits, configuration_edits, edited


def test_entries_are_changed_in_a_copy_by_their_path():
    settings = {"a": [1, {"b": (2, 3)}], "c": 4}
    changed = edited(settings, [Edit(("a", 1, "b", 0), lambda value: value * 10), Edit(("c",), lambda _: None)])
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
    assert edited(layer.get_config(), configuration_edits(graph, "hidden", keep))["units"] == 2
    assert argument_edits(graph, "hidden", keep) == []
    (operation,) = (layer for layer in model.layers if "add" in layer.name)
    node = operation.inbound_nodes[0]
    edits = argument_edits(graph, operation.name, keep)
    assert configuration_edits(graph, operation.name, keep) == []
    (edit,) = edits
    args, kwargs = edited((node.call_args, node.call_kwargs), edits)
    kept = args[edit.path[1]] if edit.path[0] == 0 else kwargs[edit.path[1]]
    assert np.asarray(kept).tolist() == [2, 4]
