"""Measure how weights are rounded: int8 by the nearest steps, with corrected biases, and adaptively, in both runtimes.

The demo's network and MLPerf Tiny's ResNet-8 on their whole test sets, keyword spotting and visual wake words on the
inputs of `quality.py`, each calibrated on 256 samples. `agrees` is how often a file predicts Keras' class, `error` the
mean squared difference of the outputs, `weights` the part of the weights alone (before the closing softmax, on held-out
samples, relative to the outputs' variance). `choosing` is what rounding adds to the conversion, and an epoch the first
one of `model.fit` on the same samples, in batches of 32, with its tracing: both in CPU seconds.

Exit status 1 if adaptive rounding agrees less often than the nearest, by more than the 95 % interval of the difference,
or takes longer than the epoch.

    python benchmarks/weight_rounding.py --data DIR      # contents of DIR: see public_models.py
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fresh import ROOT
from public_models import TinyModel, cifar10, tiny_model_file
from quality import calibrated_range, noise, photographs, towards_all_classes

CALIBRATION, AGREEMENT_INPUTS, BATCH = 256, 3_000, 32
FORMATS = ("tflite", "onnx")
SETTINGS: dict[str, dict[str, Any]] = {
    "nearest": {},
    "biases": {"bias_correction": True},
    "adaptive": {"rounding": "adaptive"},
    "adaptive, biases as they are": {"rounding": "adaptive", "bias_correction": False},
}


@dataclass(frozen=True)
class Network:
    """Hold a trained model, calibration samples, inputs, and labels if there are any."""

    name: str
    model: Any
    calibration: Any
    x: Any
    labels: Any


def demo(_: Path) -> Network:
    import numpy as np

    from stages.load import load_model

    assets = ROOT / "configs" / "assets"
    with np.load(assets / "fashion_mnist.npz") as arrays:
        train, test = (arrays[name].astype(np.float32) / 127.5 - 1 for name in ("x_train", "x_test"))
        labels = arrays["y_test"].ravel()
    model = load_model(assets / "mini_xception.keras").model
    train, test = (images.reshape(-1, *model.input_shape[1:]) for images in (train[:CALIBRATION], test))
    return Network("demo", model, train, test, labels)


def resnet8(data: Path) -> Network:
    import numpy as np

    (train, _), (test, labels) = cifar10(data, "train"), cifar10(data, "test")
    train, test = (images.astype(np.float32) / 128 - 1 for images in (train[:CALIBRATION], test))
    return Network("resnet8", _tiny(data, "image_classification"), train, test, labels.ravel())


def without_labels(data: Path, name: TinyModel) -> Network:
    model = _tiny(data, name)
    low, high = calibrated_range(tiny_model_file(data, name, "tflite"))
    count = CALIBRATION + AGREEMENT_INPUTS
    photos = name == "visual_wake_words"
    start = photographs(data, low, high, count) if photos else noise(model.input_shape[1:], low, high, count)
    x = towards_all_classes(model, start[CALIBRATION:], low, high)
    return Network(name, model, start[:CALIBRATION], x, None)


def _tiny(data: Path, name: TinyModel) -> Any:
    from stages.load import load_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.h5"
        path.write_bytes(tiny_model_file(data, name, "h5"))
        return load_model(path).model


def epoch_s(network: Network) -> float:
    """Return the CPU seconds of the first epoch on the calibration samples, targets being the model's own outputs."""
    from stages.keras.normal_form import copy_model
    from stages.keras.tensorflow import import_keras

    model = copy_model(network.model)
    targets = model.predict(network.calibration, verbose=0)
    model.compile(import_keras().optimizers.SGD(1e-4), "mse")
    start = time.process_time()
    model.fit(network.calibration, targets, batch_size=BATCH, epochs=1, verbose=0)
    return time.process_time() - start


def outputs_of(network: Network, form: str, settings: dict[str, Any]) -> tuple[Any, str, float]:
    """Return the outputs of the file, what rounding reports, and the CPU seconds that it took."""
    import numpy as np

    from pipeline.records.schemes import Quantization
    from stages.formats.onnx.convert import convert_onnx
    from stages.formats.onnx.overrides import RANGE
    from stages.formats.registry import load_exported
    from stages.formats.rounding import round_model
    from stages.formats.tflite.convert import convert_tflite
    from stages.formats.tflite.ranges import LEVELS
    from stages.keras.regression.grids import Grid

    how, model, told, start = Quantization(scheme="int8", **settings), network.model, "", time.process_time()
    if settings:
        with tempfile.TemporaryDirectory() as folder:
            grid = Grid(LEVELS if form == "tflite" else RANGE)
            found = round_model(model, how, [network.calibration], grid, Path(folder))
        model, told = found.model, f"{found.error_before:.2g} → {found.error_after:.2g}"
    took = time.process_time() - start
    convert = convert_tflite if form == "tflite" else convert_onnx
    loaded = load_exported(f"{form}-model", convert(model, how, calibration=network.calibration))
    name, x = loaded.inputs[0].name, network.x
    parts = (loaded.run({name: x[at : at + BATCH]}) for at in range(0, len(x), BATCH))
    return np.concatenate([next(iter(part.values())) for part in parts]), told, took


def measure(network: Network) -> bool:
    """Print a network's rows; return whether adaptive rounding agrees as often as the nearest, and takes no longer."""
    import numpy as np

    expected, epoch = np.asarray(network.model.predict(network.x, verbose=0)), epoch_s(network)
    classes, fine = expected.argmax(1), True
    accuracy = "" if network.labels is None else f", accuracy {(classes == network.labels).mean():.2%}"
    print(f"{network.name}: {len(network.x)} inputs{accuracy}; an epoch takes {epoch:.1f} s")
    for form in FORMATS:
        nearest = None
        for label, settings in SETTINGS.items():
            made, told, took = outputs_of(network, form, settings)
            same = made.argmax(1) == classes
            accuracy = "" if network.labels is None else f"accuracy {(made.argmax(1) == network.labels).mean():.2%}  "
            error = float(np.square(made - expected).mean())
            print(
                f"  {form:6}  {label:28}  agrees {same.mean():.2%}  {accuracy}error {error:.2e}  "
                f"choosing {took:3.1f} s  {f'weights {told}' if told else ''}".rstrip(),
                flush=True,
            )
            nearest = same if nearest is None else nearest
            if label == "adaptive":
                differ = same.astype(int) - nearest
                half = 1.96 * math.sqrt(float((differ**2).mean()) / len(differ))
                fine &= float(differ.mean()) + half >= 0 and took <= epoch
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    fine = [measure(demo(data)), measure(resnet8(data))]
    fine += [measure(without_labels(data, name)) for name in ("keyword_spotting", "visual_wake_words")]
    print(f"adaptive rounding agrees as often as the nearest, within an epoch: {sum(fine)} of {len(fine)} networks")
    return 0 if all(fine) else 1


if __name__ == "__main__":
    raise SystemExit(main())
