"""Mix 8-bit and 16-bit activations in one file, and run it in LiteRT and TFLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import UnsupportedError
from pipeline.records.schemes import Quantization
from stages.devices.target import count, find_target
from stages.formats.registry import load_exported
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.sixteen_bits import with_sixteen_bits
from stages.formats.tflite.tensors import count_operators, tflite_tensors
from stages.keras.tensorflow import import_keras

SAMPLES = np.random.default_rng(1).standard_normal((32, 12, 12, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> Any:
    """Build two convolutions and a dense layer; the first filter of `second` is zero, and has a bias."""
    keras = import_keras()
    keras.utils.set_random_seed(3)
    layers, image = keras.layers, keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(8, 3, activation="relu", name="first")(image)
    x = layers.Conv2D(8, 3, activation="relu", bias_initializer="random_normal", name="second")(x)
    x = layers.Flatten(name="flat")(x)
    model = keras.Model(image, layers.Dense(5, name="head")(x))
    kernel, bias = model.get_layer("second").get_weights()
    kernel[..., 0], bias[0] = 0, 0.3
    model.get_layer("second").set_weights([kernel, bias])
    return model


def converted(network: Any, io: Any = "float32", **settings: Any) -> bytes:
    how = Quantization(scheme="int8", equalize=False, **settings)
    return convert_tflite(network, how, io, calibration=SAMPLES)


def noise(network: Any, data: bytes) -> float:
    wanted = network(SAMPLES, training=False).numpy()
    loaded = load_exported("tflite-model", data)
    (found,) = loaded.run({"image": SAMPLES}).values()
    return float(np.square(found - wanted).mean() / np.square(wanted).mean())


def test_layers_in_16_bits_err_less_than_in_8_and_take_fewer_bytes_than_in_float(network: Any) -> None:
    plain, mixed = converted(network), converted(network, keep_int16=("second", "head"))
    in_float, whole = (
        converted(network, keep_float=("second", "head")),
        convert_tflite(network, Quantization(scheme="int16x8", equalize=False), calibration=SAMPLES),
    )
    assert noise(network, mixed) < 0.8 * noise(network, plain)
    assert noise(network, whole) < noise(network, mixed)
    assert len(mixed) < 1.2 * len(plain) < len(in_float)
    # One step between the types, and floats only at the ends.
    assert count_operators(mixed) == {**count_operators(plain), "QUANTIZE": 2}
    (ends,) = {tensor.ends for tensor in tflite_tensors(mixed, {"image": SAMPLES[:1]}) if "second" in tensor.name}
    assert ends is not None
    assert ends[0] == pytest.approx(-ends[1], rel=1e-4)


def test_a_bias_behind_a_filter_of_zeros_is_kept(network: Any) -> None:
    data = converted(network, keep_int16=("second",))
    tensors = {tensor.name: tensor.values for tensor in tflite_tensors(data, {"image": SAMPLES[:1]})}
    (second,) = [values for name, values in tensors.items() if "second" in name and values.shape[-1] == 8]
    assert np.abs(second[..., 0] - 0.3).max() < 1e-3


@pytest.mark.parametrize("kept", [("first", "second"), ("head",)])
def test_integers_at_the_ends_stay_8_bits(network: Any, kept: tuple[str, ...]) -> None:
    data = converted(network, "int8", keep_int16=kept)
    loaded = load_exported("tflite-model", data)
    assert {spec.dtype for spec in (*loaded.inputs, *loaded.outputs)} == {"int8"}
    assert "DEQUANTIZE" not in count_operators(data)


def test_tflm_computes_what_litert_does(network: Any, tmp_path: Path) -> None:
    path = tmp_path / "mixed.tflite"
    path.write_bytes(converted(network, keep_int16=("second",)))
    assert count(find_target("tflm"), path, "mixed").metrics["arena_bytes"] > 0


def test_an_operator_without_such_a_form_is_named() -> None:
    keras = import_keras()
    image = keras.Input((12, 12, 3), name="image")
    model = keras.Model(image, keras.layers.Conv2D(2, 3, activation="elu", name="bent")(image))
    with pytest.raises(UnsupportedError, match=r"ELU .* can't be made with 16-bit activations"):
        converted(model, keep_int16=("bent",))


def test_nothing_named_changes_nothing(network: Any) -> None:
    data = converted(network)
    assert with_sixteen_bits(data, ("none of this name",), {"image": SAMPLES}) == data
