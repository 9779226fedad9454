"""A trained model with a known amount of real work added: what a gate on latency has to find.

A dense layer of some width reads the model's output and is a second output itself: one operator more, computed by the
same runtime as all the rest, whose cost grows with the width. Which width costs 3 % of a model is measured, in many
rounds that are not those of the test. Where one operator alone costs more there is no such model, and none is tested.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from public_models import TinyModel, tiny_model_file

CALIBRATION_SAMPLES, CALIBRATION_ROUNDS, TRIES = 32, 30, 6
FIRST_WIDTHS = (256, 4096)
NEAR = (-0.001, 0.002)  # how far a slow-down should lie from the size that is asked for
FURTHEST = 0.1  # and how far it may, as a share of that size: 2.7 to 3.3 % are called 3 %

Scheme = Literal["float32", "int8"]
MeasureRatio = Callable[[Path, Path, int], tuple[float, float, float]]  # point, low, high of candidate / baseline


def model_file(data: Path, folder: Path, name: TinyModel, scheme: Scheme, width: int) -> Path:
    """The TFLite file of a trained model with extra work of `width` (0: as it is), made once in `folder`."""
    path = folder / f"{name}-{scheme}-{width}.tflite"
    if path.exists():
        return path
    from stages.export.tflite import convert_tflite
    from stages.keras_format import random_inputs
    from stages.load import load_model
    from stages.tf_runtime import import_keras

    source = folder / f"{name}.h5"
    source.write_bytes(tiny_model_file(data, name, "h5"))
    model = load_model(source).model
    if width:
        model = _with_work(import_keras(), model, width)
    calibration = random_inputs(model, samples=CALIBRATION_SAMPLES, seed=0) if scheme == "int8" else None
    partial = path.with_suffix(".partial")
    partial.write_bytes(convert_tflite(model, scheme, calibration=calibration))
    return partial.replace(path)


def _with_work(keras: Any, model: Any, width: int) -> Any:
    keras.utils.set_random_seed(0)
    output = model.output
    extra = keras.layers.Dense(width, activation="relu", name="extra_work")(output)
    return keras.Model(model.input, [output, extra], name=model.name)


def width_of(
    size: float, file_of: Callable[[int], Path], ratio: MeasureRatio
) -> tuple[int, tuple[float, float, float]] | None:
    """The width whose work makes a model slower by `size`, and the ratio that was measured of it; None if none does."""
    known = {width: ratio(file_of(width), file_of(0), CALIBRATION_ROUNDS) for width in FIRST_WIDTHS}
    for _ in range(TRIES):
        width = _between(known, 1 + size)
        if width not in known:
            known[width] = ratio(file_of(width), file_of(0), CALIBRATION_ROUNDS)
        if NEAR[0] <= known[width][0] - 1 - size <= NEAR[1]:
            return width, known[width]
    best = min(known, key=lambda width: abs(known[width][0] - 1 - size))
    return (best, known[best]) if abs(known[best][0] - 1 - size) <= FURTHEST * size else None


def _between(known: dict[int, tuple[float, float, float]], wanted: float) -> int:
    """The width that a line through the two nearest measured ones gives."""
    first, second = sorted(known, key=lambda width: abs(known[width][0] - wanted))[:2]
    slope = (known[second][0] - known[first][0]) / (second - first)
    if slope <= 0:
        return max(8, round(1.2 * max(known)))
    return max(8, round(first + (wanted - known[first][0]) / slope))
