from stages.keras.channels.labels import Flow, Held, Role
from stages.keras.channels.rules import RULES, rule, transparent


def test_a_rule_of_ones_own_is_one_function(keras, cut, groups):
    class Scale(keras.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight("scale", (shape[-1],))

        def call(self, x):
            return x * self.scale

    class Shuffle(Scale):
        """A subclass may do anything: it does not inherit a rule."""

    def net(layer):
        image = keras.Input((5, 5, 2))
        x = keras.layers.GlobalAveragePooling2D()(layer(keras.layers.Conv2D(6, 2, name="before")(image)))
        return keras.Model(image, keras.layers.Dense(2, name="head")(x))

    assert groups(net(Scale(name="mine")))["before"] == ["mine: unknown layer kind Scale"]

    known = set(RULES)
    try:

        @rule(Scale)
        @transparent
        def scale(call, labels):
            return Flow((labels,), weights={"scale": {0: Held(labels.ids, Role.PASS_THROUGH)}})

        with keras.utils.custom_object_scope({"Scale": Scale}):
            result = cut(net(Scale(name="mine")))
        assert result.pruned.get_layer("mine").scale.shape[0] < 6
        assert groups(net(Shuffle(name="mine")))["before"] == ["mine: unknown layer kind Shuffle"]
    finally:
        for kind in set(RULES) - known:
            del RULES[kind]
