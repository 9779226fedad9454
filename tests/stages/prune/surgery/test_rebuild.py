import pytest

from pipeline.errors import PostconditionError
from stages.keras.channels.groups import channel_groups
from stages.keras.channels.labels import Flow, Labels
from stages.keras.channels.rules import RULES
from stages.prune.surgery.surgeon import remove_channels


def small(keras, **settings):
    vector = keras.Input((4,), name="vector")
    x = keras.layers.Dense(6, activation="relu", name="first", **settings)(vector)
    return keras.Model(vector, keras.layers.Dense(3, activation="softmax", name="head")(x), name="small")


def test_a_rule_that_contradicts_itself_is_caught(keras, randomize, random_keep, monkeypatch):
    """It shrinks the configuration but names no weight."""

    def forgetful(call):
        made = call.make(call.layer.units)
        return Flow((Labels(1, made),), sizes={("units",): made})

    monkeypatch.setitem(RULES, "Dense", forgetful)
    model = randomize(small(keras))
    graph = channel_groups(model)
    with pytest.raises(PostconditionError, match="the rule for Dense") as caught:
        remove_channels(model, graph, random_keep(graph))
    assert caught.value.where == "first"
