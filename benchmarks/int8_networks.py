"""Make the networks of the int8 programs, each with inputs to calibrate and to compare on; trained ones are kept.

* `relu_bn_demo`, `relu_bn_cifar`: Conv → ReLU → BatchNormalization, trained here on the demo's images and on CIFAR-10;
* `resnet8`, `keyword_spotting`, `visual_wake_words`, `anomaly_detection`: MLPerf Tiny's trained networks. Only the
  first one's data is in a registry: the others see what `quality.py` says; anomaly detection sees noise.
* `MobileNetV2`, `MobileNetV3Small`, `EfficientNetB0` at 96×96, trained here for a short time on CIFAR-10's images,
  three times enlarged; then their batch normalizations are measured on these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fresh import ROOT
from public_models import TinyModel, cifar10, tiny_model_file
from quality import calibrated_range, noise, photographs, towards_all_classes

CALIBRATION, TRAINING, SIDE = 256, 20_000, 96
SMALL_TRAINING, SMALL_EPOCHS = 4_096, 4
SMALL = ("MobileNetV2", "MobileNetV3Small", "EfficientNetB0")
SCALE_THEMSELVES = ("MobileNetV3Small", "EfficientNetB0")  # from 0 to 255


@dataclass(frozen=True)
class Case:
    """Hold a network, what it is calibrated on, test inputs, and their labels if there are any."""

    model: Any
    calibration: Any
    x: Any
    y: Any | None = None


def _relu_bn(x: Any, y: Any, padding: str, epochs: int) -> Any:
    """Train a network in which each batch normalization stands behind a ReLU."""
    from stages.keras.tensorflow import import_keras

    keras = import_keras()
    layers, image = keras.layers, keras.Input(x.shape[1:])
    made = image
    for place, width in enumerate((32, 32, 64, 64, 96)):
        made = layers.BatchNormalization()(layers.Conv2D(width, 3, padding=padding, activation="relu")(made))
        if place in (1, 3):
            made = layers.MaxPooling2D()(made)
    made = layers.Dense(96, activation="relu")(layers.Flatten()(made))
    made = layers.Dropout(0.3)(layers.BatchNormalization()(made))
    model = keras.Model(image, layers.Dense(10, activation="softmax")(made))
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * len(x) // 64)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model


def _kept(path: Path, make: Callable[[], Any]) -> Any:
    from stages.load import load_model

    if not path.exists():
        draft = path.with_name(f"draft-{path.name}")
        make().save(draft)
        draft.replace(path)
    return load_model(path).model


def _demo_images() -> tuple[Any, Any, Any, Any]:
    import numpy as np

    arrays = np.load(ROOT / "configs" / "assets" / "fashion_mnist.npz")
    parts = [arrays[f"x_{part}"].astype(np.float32) * np.float32(2 / 255) - 1 for part in ("train", "test")]
    train, test = (part.reshape(*part.shape[:3], -1) for part in parts)
    return train, arrays["y_train"], test, arrays["y_test"]


def _cifar_images(data: Path) -> tuple[Any, Any, Any, Any]:
    import numpy as np

    (x, y), (x_test, y_test) = cifar10(data, "train"), cifar10(data, "test")
    scaled = [part.astype(np.float32) / 128 - 1 for part in (x[:TRAINING], x_test)]
    return scaled[0], y[:TRAINING].reshape(-1), scaled[1], y_test.reshape(-1)


def _trained(x: Any, y: Any, x_test: Any, y_test: Any, path: Path, padding: str) -> Case:
    model = _kept(path, lambda: _relu_bn(x, y, padding, epochs=8))
    return Case(model, x[:CALIBRATION], x_test, y_test)


def _tiny(name: TinyModel, data: Path, work: Path) -> Case:
    from stages.load import load_model

    path = work / f"{name}.h5"
    path.write_bytes(tiny_model_file(data, name, "h5"))
    model = load_model(path).model
    if name == "image_classification":
        x, _, x_test, y_test = _cifar_images(data)
        return Case(model, x[:CALIBRATION], x_test, y_test)
    low, high = calibrated_range(tiny_model_file(data, name, "tflite"))
    count = 1_000 + CALIBRATION
    if name == "visual_wake_words":
        start = photographs(data, low, high, count)
    else:
        start = noise(model.input_shape[1:], low, high, count)
    classes = name != "anomaly_detection"
    x = towards_all_classes(model, start[CALIBRATION:], low, high) if classes else start[CALIBRATION:]
    return Case(model, start[:CALIBRATION], x)


def _small(name: str, data: Path, work: Path) -> Case:
    import numpy as np

    x, y, x_test, y_test = _cifar_images(data)
    train, test = (np.kron(part, np.ones((1, 3, 3, 1), np.float32)) for part in (x[:SMALL_TRAINING], x_test[:1_000]))
    if name in SCALE_THEMSELVES:
        train, test = ((part + 1) * 127.5 for part in (train, test))

    def make() -> Any:
        from stages.keras.tensorflow import import_keras
        from stages.recalibrate.statistics import recalibrate

        keras = import_keras()
        keras.utils.set_random_seed(0)
        model = getattr(keras.applications, name)(weights=None, input_shape=(SIDE, SIDE, 3), classes=10)
        model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
        model.fit(train, y[:SMALL_TRAINING], batch_size=32, epochs=SMALL_EPOCHS, verbose=0)
        recalibrate(model, [train[at : at + 128] for at in range(0, 1_024, 128)])
        return model

    return Case(_kept(work / f"{name}.keras", make), train[:CALIBRATION], test, y_test[:1_000])


def networks(data: Path, work: Path) -> Mapping[str, Callable[[], Case]]:
    """Return what makes each network, by name; `work` keeps those that are trained here."""
    made: dict[str, Callable[[], Case]] = {
        "relu_bn_demo": lambda: _trained(*_demo_images(), work / "relu_bn_demo.keras", "same"),
        "relu_bn_cifar": lambda: _trained(*_cifar_images(data), work / "relu_bn_cifar.keras", "valid"),
        "resnet8": lambda: _tiny("image_classification", data, work),
        "keyword_spotting": lambda: _tiny("keyword_spotting", data, work),
        "visual_wake_words": lambda: _tiny("visual_wake_words", data, work),
        "anomaly_detection": lambda: _tiny("anomaly_detection", data, work),
    }
    return made | {name: (lambda name=name: _small(name, data, work)) for name in SMALL}
