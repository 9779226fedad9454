import numpy as np
import pytest

from pipeline.errors import ModelError
from stages.keras.graph import check_has_graph, in_input_order, is_nested, nodes_in_order, user_classes
from stages.keras.tensorflow import import_keras


def test_every_call_comes_after_those_that_it_reads():
    keras = import_keras()
    vector = keras.Input((4,), name="vector")
    shared = keras.layers.Dense(4, name="shared")
    last = keras.layers.Add(name="add")([shared(shared(vector)), vector])
    calls = [node.layer.name for node in nodes_in_order(keras.Model(vector, last)) if not node.is_input]
    assert calls == ["shared", "shared", "add"]


def test_a_model_without_a_graph_is_refused_and_is_no_nested_one():
    keras = import_keras()

    class Own(keras.Model):
        def call(self, x):
            return x

    own, functional = Own(name="mine"), keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ModelError, match="no layer graph") as caught:
        check_has_graph(own)
    assert caught.value.where == "mine"
    check_has_graph(functional)
    assert (is_nested(own), is_nested(functional), is_nested(functional.layers[0])) == (False, True, False)


def test_classes_of_nested_layers_are_found():
    keras = import_keras()

    class Scale(keras.layers.Layer):
        def call(self, x):
            return x * 2.0

    inner = keras.Sequential([keras.Input((2,)), Scale()])
    assert user_classes(keras.Sequential([keras.Input((2,)), inner]))["Scale"] is Scale


def test_tensors_given_by_name_come_in_the_order_of_the_inputs():
    keras = import_keras()
    inputs = [keras.Input((2,), name=name) for name in ("b", "a")]
    model = keras.Model(inputs, keras.layers.Concatenate()(inputs))
    b, a = np.zeros((1, 2)), np.ones((1, 2))
    assert [one is two for one, two in zip(in_input_order(model, {"a": a, "b": b}), (b, a), strict=True)] == [True] * 2
    assert in_input_order(model, [b, a])[1] is a
