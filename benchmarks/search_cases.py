"""Make the networks of the search programs, each as a model file and an npz, as a user brings them.

* `demo`: the demo's network and its images of Fashion-MNIST;
* `resnet8`: MLPerf Tiny's ResNet-8 with CIFAR-10's images as floats from -1 to 1, 20,000 of them to train on;
* `visual_wake_words`: MLPerf Tiny's network. Its data is in no registry: photographs of CIFAR-10, three times enlarged
  and moved across the border between the classes, without labels, so that accuracy is agreement with the source.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fresh import ROOT
from public_models import cifar10, tiny_model_file
from quality import calibrated_range, photographs, towards_all_classes

NAMES = ("demo", "resnet8", "visual_wake_words")
RESNET8_IMAGES = 20_000
PHOTOGRAPHS, TESTED_PHOTOGRAPHS = 2_000, 1_000
BEYOND = 3
ASSETS = ROOT / "configs" / "assets"


@dataclass(frozen=True)
class Case:
    """Hold a model file and its data."""

    model: Path
    data: Path


def case_of(name: str, data: Path, folder: Path) -> Case:
    """Return a network with its data, written into `folder` unless it is there; `data` holds the downloads."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Case(folder / ("model.keras" if name == "demo" else "model.h5"), folder / "data.npz")
    if not made.data.exists():
        {"demo": _demo, "resnet8": _resnet8, "visual_wake_words": _wake_words}[name](data, made)
    return made


def _demo(_: Path, made: Case) -> None:
    shutil.copyfile(ASSETS / "mini_xception.keras", made.model)
    shutil.copyfile(ASSETS / "fashion_mnist.npz", made.data)


def _resnet8(data: Path, made: Case) -> None:
    import numpy as np

    made.model.write_bytes(tiny_model_file(data, "image_classification", "h5"))
    (x, y), (x_test, y_test) = cifar10(data, "train"), cifar10(data, "test")
    first, tested = x[:RESNET8_IMAGES].astype(np.float32) / 128 - 1, x_test.astype(np.float32) / 128 - 1
    np.savez(made.data, x_train=first, y_train=y[:RESNET8_IMAGES], x_test=tested, y_test=y_test)


def _wake_words(data: Path, made: Case) -> None:
    import numpy as np

    from stages.load import load_model

    made.model.write_bytes(tiny_model_file(data, "visual_wake_words", "h5"))
    low, high = calibrated_range(tiny_model_file(data, "visual_wake_words", "tflite"))
    start = photographs(data, low, high, PHOTOGRAPHS + TESTED_PHOTOGRAPHS)
    model = load_model(made.model).model
    x = near_the_border(model, start, towards_all_classes(model, start, low, high))
    np.savez(made.data, x_train=x[:PHOTOGRAPHS], x_test=x[PHOTOGRAPHS:])


def near_the_border(model: Any, start: Any, moved: Any) -> Any:
    """Return samples on the way from `start` to `moved`, at most `BEYOND` times as far as where their class changes.

    All the way there they are so surely of their class that any network agrees with the source. Those whose class does
    not change stay where they are.
    """
    import numpy as np

    way = moved - start
    before = model.predict(start, verbose=0).argmax(1)
    changes = np.full(len(start), np.nan, np.float32)
    for share in np.geomspace(0.01, 1, 12, dtype=np.float32):
        now = model.predict(start + share * way, verbose=0).argmax(1)
        changes[np.isnan(changes) & (now != before)] = share
    drawn = np.random.default_rng(1).uniform(0, BEYOND, len(start)).astype(np.float32)
    shares = np.minimum(np.nan_to_num(drawn * changes), 1)
    return start + shares.reshape(-1, *[1] * (start.ndim - 1)) * way
