"""Hold the ranges that int8 files get against what the tensors really are, on ten networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_networks import NETWORKS

from stages.formats.tflite import range_methods
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.ranges import Ranges
from stages.formats.tflite.session import load_tflite
from stages.formats.tflite.tensors import tflite_tensors
from stages.keras.tensorflow import import_keras
from stages.prune.surgery.random_weights import randomize_weights

SAMPLES = 12


def lone_normalizations(layers: Any, x: Any) -> Any:
    for _ in range(2):
        x = layers.BatchNormalization()(layers.Conv2D(6, 3, activation="relu")(x))
    return x


def gate(layers: Any, x: Any) -> Any:
    x = layers.Conv2D(6, 3, activation="relu")(x)
    return layers.Multiply()([layers.Conv2D(6, 1, activation="sigmoid")(x), layers.Conv2D(6, 1)(x)])


def squeeze_and_excite(layers: Any, x: Any) -> Any:
    x = layers.Conv2D(6, 3, activation="relu6")(x)
    weights = layers.Dense(6, activation="hard_sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.Add()([layers.Multiply()([x, weights]), x])


def residual(layers: Any, x: Any) -> Any:
    x = layers.Conv2D(6, 3)(x)
    for _ in range(2):
        inner = layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same", use_bias=False)(x))
        x = layers.ReLU()(layers.Add()([x, inner]))
    return x


def difference(layers: Any, x: Any) -> Any:
    return layers.Subtract()([layers.Conv2D(6, 3, activation="relu")(x), layers.Conv2D(6, 3, activation="elu")(x)])


def dense_block(layers: Any, x: Any) -> Any:
    for _ in range(2):
        inner = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Concatenate()([x, layers.Conv2D(4, 3, padding="same")(inner)])
    return x


def leaky(layers: Any, x: Any) -> Any:
    x = layers.LeakyReLU(0.1)(layers.BatchNormalization()(layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(6, 3)(x))))
    return layers.Average()([x, layers.UpSampling2D()(layers.AveragePooling2D()(x))])


def built(body: Callable[[Any, Any], Any]) -> Any:
    keras = import_keras()
    image = keras.Input((8, 8, 3), name="image")
    pooled = keras.layers.GlobalAveragePooling2D()(body(keras.layers, image))
    return randomize_weights(keras.Model(image, keras.layers.Dense(4, name="head")(pooled)))


OWN = (lone_normalizations, gate, squeeze_and_excite, residual, difference, dense_block, leaky)
EVERY = {body.__name__: lambda body=body: built(body) for body in OWN} | {
    name: NETWORKS[name] for name in ("operators", "nested", "sequences")
}


def samples_of(model: Any) -> dict[str, Any]:
    """Return samples, of which some are much larger than others."""
    rng = np.random.default_rng(3)
    sizes = rng.uniform(0.2, 2, SAMPLES)
    return {
        name: (rng.normal(size=(SAMPLES, *tensor.shape[1:])).T * sizes).T.astype(np.float32)
        for name, tensor in zip(model.input_names, model.inputs, strict=True)
    }


def quantized_with(monkeypatch: pytest.MonkeyPatch, model: Any, samples: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return the calibrated float32 file as it is before ranges are made usable, and the int8 file."""
    calibrated = list[bytes]()
    monkeypatch.setattr(range_methods, "make_usable", lambda ranges, _: calibrated.append(ranges.data))
    made = convert_tflite(model, "int8", calibration=[samples[name] for name in model.input_names])
    return calibrated[0], made


@pytest.mark.parametrize("name", EVERY)
def test_every_range_is_that_of_its_tensor(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import_keras().utils.set_random_seed(5)
    model = EVERY[name]()
    samples = samples_of(model)
    file, _ = quantized_with(monkeypatch, model, samples)
    ends: dict[int, list[tuple[float, float]]] = {}
    for place in range(SAMPLES):
        for tensor in tflite_tensors(file, {key: array[place : place + 1] for key, array in samples.items()}):
            ends.setdefault(tensor.operator, []).append((float(tensor.values.min()), float(tensor.values.max())))
    ranges, compared = Ranges(file), 0
    for place, operator in enumerate(ranges.operators()):
        if len(operator.outputs) == 1 and ranges[operator.outputs[0]] is not None:
            low, high = np.min([low for low, _ in ends[place]]), np.max([high for _, high in ends[place]])
            wanted = min(low, 0.0), max(high, 0.0)
            room = 1e-4 * (wanted[1] - wanted[0])
            assert ranges[operator.outputs[0]] == pytest.approx(wanted, abs=room), (place, operator.kind)
            compared += 1
    assert compared > 2


def test_a_difference_is_nearer_to_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    import_keras().utils.set_random_seed(5)
    model = built(difference)
    samples = samples_of(model)
    wanted = np.asarray(model(samples["image"]))

    def error() -> float:
        _, file = quantized_with(monkeypatch, model, samples)
        return float(np.square(load_tflite(file).run(samples)["head"] - wanted).mean())

    ours = error()
    monkeypatch.setattr(range_methods, "put_true_ranges", lambda *_: None)
    assert ours < 0.8 * error()
