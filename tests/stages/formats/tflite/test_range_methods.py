"""Hold ranges by percentile and least squares against the true tensors of networks, and test what auto takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_networks import NETWORKS

from pipeline.records.schemes import Quantization
from stages.formats.calibration.choice import RangeChoice
from stages.formats.tflite import schemes
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.range_methods import put_ranges
from stages.formats.tflite.ranges import Ranges
from stages.formats.tflite.session import load_tflite
from stages.formats.tflite.tensors import tflite_tensors
from stages.keras.tensorflow import import_keras
from stages.prune.surgery.random_weights import randomize_weights

SAMPLES = 12
FEW = 300  # values of a tensor: of fewer, no model of rounding holds
ASLEEP = -1e3  # a bias that no sample overcomes


def moved_and_joined(layers: Any, x: Any) -> Any:
    """Build layers whose tensors must share scales."""
    x = layers.Conv2D(6, 3, activation="relu", padding="same")(x)
    pooled = layers.Concatenate()([layers.MaxPooling2D()(x), layers.AveragePooling2D()(x)])
    return layers.Add()([layers.UpSampling2D()(pooled), layers.Concatenate()([x, x])])


def residual(layers: Any, x: Any) -> Any:
    x = layers.Conv2D(6, 3)(x)
    inner = layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same", activation="relu")(x))
    return layers.ReLU()(layers.Add()([x, inner]))


def built(body: Callable[[Any, Any], Any]) -> Any:
    keras = import_keras()
    keras.utils.set_random_seed(5)
    image = keras.Input((8, 8, 3), name="image")
    pooled = keras.layers.GlobalAveragePooling2D()(body(keras.layers, image))
    return randomize_weights(keras.Model(image, keras.layers.Dense(4, name="head")(pooled)))


def lstm() -> Any:
    keras = import_keras()
    keras.utils.set_random_seed(5)
    start = keras.Input((6, 5), name="image")
    return keras.Model(start, keras.layers.Dense(4, name="head")(keras.layers.LSTM(8)(start)))


EVERY = {
    "moved_and_joined": lambda: built(moved_and_joined),
    "residual": lambda: built(residual),
    "operators": NETWORKS["operators"],
    "nested": NETWORKS["nested"],
}


def samples_of(model: Any) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {
        name: rng.laplace(size=(SAMPLES, *tensor.shape[1:])).astype(np.float32)
        for name, tensor in zip(model.input_names, model.inputs, strict=True)
    }


def by(method: str, percentile: float | None = None) -> Quantization:
    return Quantization.model_validate({"scheme": "int8", "calibration": method, "percentile": percentile})


def converted(model: Any, samples: dict[str, Any], method: str) -> tuple[bytes, list[RangeChoice]]:
    choices = list[RangeChoice]()
    arrays = [samples[name] for name in model.input_names]
    return convert_tflite(model, by(method), calibration=arrays, chose=choices.append), choices


def calibrated(model: Any, samples: dict[str, Any]) -> bytes:
    """Return the float32 file as the converter calibrates it."""
    files = list[bytes]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schemes, "put_ranges", lambda ranges, *_: files.append(ranges.data))
        converted(model, samples, "min_max")
    return files[0]


def ranges_by(how: Quantization, file: bytes, samples: dict[str, Any]) -> Ranges:
    ranges = Ranges(file)
    put_ranges(ranges, how, samples)
    return ranges


def true_values(file: bytes, samples: dict[str, Any]) -> dict[int, Any]:
    """Return what each operator with one output gives on all samples, by its output's index, computed one by one."""
    operators = list(Ranges(file).operators())
    values: dict[int, list[Any]] = {}
    for place in range(SAMPLES):
        for tensor in tflite_tensors(file, {key: array[place : place + 1] for key, array in samples.items()}):
            values.setdefault(operators[tensor.operator].outputs[0], []).append(tensor.values.ravel().astype(float))
    return {tensor: np.concatenate(parts) for tensor, parts in values.items()}


def error_of(values: Any, low: float, high: float) -> float:
    step = (high - low) / 255
    zero = np.round(-low / step)
    codes = np.clip(np.round(values / step) + zero, 0, 255)
    return float(np.mean(((codes - zero) * step - values) ** 2))


@pytest.mark.parametrize("name", EVERY)
def test_ranges_are_those_of_the_true_tensors(name: str) -> None:
    model = EVERY[name]()
    samples = samples_of(model)
    file = calibrated(model, samples)
    by_share, by_square = (ranges_by(how, file, samples) for how in (by("percentile", 98.26), by("mse")))
    compared = 0
    for tensor, values in true_values(file, samples).items():
        extent, found, square = float(np.abs(values).max()), by_share[tensor], by_square[tensor]
        if found is None or square is None or len(values) < FEW:
            continue
        low, high = np.percentile(values, [0.87, 99.13], method="inverted_cdf")
        assert found == pytest.approx((min(low, 0), max(high, 0)), abs=extent / 1000), tensor
        shares = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
        ends = min(values.min(), 0), max(values.max(), 0)
        best = min(error_of(values, ends[0] * a, ends[1] * b) for a in shares for b in shares)
        assert error_of(values, *square) <= best * 1.1, tensor
        compared += 1
    assert compared > 2
    for key, array in samples.items():  # the data's own ends are kept
        assert by_share[by_share.inputs[key]] == pytest.approx((array.min(), array.max()), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "method"), [("moved_and_joined", "percentile"), ("moved_and_joined", "mse"), ("lstm", "mse")]
)
def test_files_run_and_are_near_keras(name: str, method: str) -> None:
    model = lstm() if name == "lstm" else EVERY[name]()
    samples = samples_of(model)
    wanted = np.asarray(model(samples["image"]))
    (found,) = load_tflite(converted(model, samples, method)[0]).run(samples).values()
    assert 0 < np.abs(found - wanted).max() < (0.15 if name == "lstm" else 0.03) * np.abs(wanted).max()


def test_no_order_of_samples_changes_a_byte() -> None:
    model = built(residual)
    samples = samples_of(model)
    order = np.random.default_rng(1).permutation(SAMPLES)
    moved = {name: array[order] for name, array in samples.items()}
    assert converted(model, samples, "auto") == converted(model, moved, "auto")
    file = calibrated(model, samples)
    for how in (by("min_max"), by("percentile", 99.0), by("mse")):
        assert ranges_by(how, file, samples).data == ranges_by(how, file, moved).data != file


def test_auto_clips_outliers_that_tell_nothing_and_makes_the_winners_own_file(spiky: Any) -> None:
    model, samples = spiky(spikes=3, read=False)
    made, (choice,) = converted(model, samples, "auto")
    assert choice.method == "percentile"
    assert choice.errors["percentile"] < 0.2 * choice.errors["min_max"]
    assert made == converted(model, samples, "percentile")[0]
    wanted = np.asarray(model(samples["image"]))
    errors = [
        float(np.square(load_tflite(file).run(samples)["head"] - wanted).sum())
        for file in (made, converted(model, samples, "min_max")[0])
    ]
    assert errors[0] < 0.2 * errors[1]


def test_auto_keeps_the_extremes_where_clipping_hurts(spiky: Any) -> None:
    model, samples = spiky(spikes=16, read=True)
    made, (choice,) = converted(model, samples, "auto")
    assert choice.method == "min_max"
    assert choice.errors["min_max"] < 0.5 * min(choice.errors["mse"], choice.errors["percentile"])
    assert made == converted(model, samples, "min_max")[0]


def test_one_sample_and_a_layer_that_is_silent_make_files_that_run() -> None:
    keras = import_keras()
    start = keras.Input((8, 8, 3), name="image")
    keras.utils.set_random_seed(2)
    inner = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(start)
    dead = keras.layers.Conv2D(
        8, 3, padding="same", activation="relu", bias_initializer=keras.initializers.Constant(ASLEEP)
    )
    model = keras.Model(start, keras.layers.Add(name="head")([inner, dead(inner)]))
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    wanted = np.asarray(model(x))
    for method in ("mse", "auto"):
        made, choices = converted(model, {"image": x}, method)
        found = load_tflite(made).run({"image": x})["head"]
        assert np.abs(found - wanted).max() < 0.03 * wanted.max()
        assert [choice.method for choice in choices] == (["min_max"] if method == "auto" else [])
