"""Build small networks of every form, whose outputs depend on their inputs, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stages.keras.tensorflow import import_keras, import_tensorflow, import_tfmot
from stages.prune.surgery.random_weights import randomize_weights


def operators() -> Any:
    """Build arithmetic, comparisons, slices and hard swish from its parts, all of them layers with their own call."""
    keras, tf = import_keras(), import_tensorflow()
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(6, 1, activation="relu", name="first")(image / 127.5 - 1)
    x = keras.layers.Conv2D(8, 3, padding="same", name="stem")(x)
    x = x * tf.nn.relu6(x + 3) / 6
    y = keras.layers.Conv2D(8, 1, name="side")(tf.abs(x))
    x = tf.where(x > y, x * 0.3 + y, y)[:, :, :, 2:]
    return keras.Model(image, keras.layers.Dense(3, activation="softmax", name="head")(tf.reduce_mean(x, [1, 2])))


def nested() -> Any:
    """Build a model in a model, called twice, with dropout that is on at inference, and a layer that is shared."""
    keras = import_keras()
    layers = keras.layers
    a, b = keras.Input((8, 8, 2), name="a"), keras.Input((8, 8, 2), name="b")
    block = keras.Sequential([keras.Input((8, 8, 2)), layers.Conv2D(4, 3, name="inner"), layers.BatchNormalization()])
    shared = layers.Conv2D(4, 1, activation="relu", name="shared")
    x = layers.Add(name="sum")([shared(block(a)), shared(block(b))])
    return keras.Model([a, b], layers.Dense(2, name="head")(layers.Flatten()(layers.Dropout(0.5)(x))))


def sequences() -> Any:
    keras = import_keras()
    layers = keras.layers
    x = given = keras.Input((3, 5), name="given")
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(layers.Masking()(x))
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = layers.TimeDistributed(layers.Dense(6, activation="gelu"))(layers.LayerNormalization()(x))
    return keras.Model(given, layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling1D()(x)))


def wrapped() -> Any:
    """Build a network in tfmot's wrappers, whose layers hold another one."""
    keras = import_keras()
    chain = keras.Sequential(
        [keras.Input((8, 8, 2)), keras.layers.Conv2D(6, 3), keras.layers.ReLU(), keras.layers.Flatten()]
    )
    chain.add(keras.layers.Dense(3, activation="softmax"))
    randomize_weights(chain)
    return import_tfmot().sparsity.keras.prune_low_magnitude(chain)


NETWORKS: dict[str, Callable[[], Any]] = {
    "operators": lambda: randomize_weights(operators()),
    "nested": lambda: randomize_weights(nested()),
    "sequences": lambda: randomize_weights(sequences()),
    "wrapped": wrapped,
}
