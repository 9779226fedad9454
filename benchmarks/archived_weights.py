"""Measure what extracting weights saves when tf_keras opens a `.keras` file: networks of 15 to 240 MB, random weights.

Each file is opened in turns as tf_keras does it and as this project does it, in one process; CPU seconds. Exit status
1, and MISSED, unless weights are equal and opening a file of 88 MB takes at most half as long.

    python benchmarks/archived_weights.py
"""

from __future__ import annotations

import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

NETWORKS, BOUND_OF, BOUND = ("MobileNetV2", "ResNet50", "EfficientNetV2S", "ResNet152"), "EfficientNetV2S", 0.5


def main() -> int:
    from stages.keras.archived_weights import weights_apart
    from stages.keras.tensorflow import tensorflow_action

    missed = False
    with tensorflow_action(0, 1) as keras, tempfile.TemporaryDirectory() as folder:
        for name in NETWORKS:
            model = getattr(keras.applications, name)(weights=None)
            path = Path(folder) / f"{name}.keras"
            model.save(path)
            seconds = []
            for context in (nullcontext(), weights_apart()):
                began = time.process_time()
                with context:
                    loaded = keras.models.load_model(path, compile=False)
                seconds.append(time.process_time() - began)
                pairs = zip(loaded.weights, model.weights, strict=True)
                missed |= not all((found.numpy() == own.numpy()).all() for found, own in pairs)
            ratio, size_mb = seconds[1] / seconds[0], path.stat().st_size / 1e6
            bound = f", wanted ≤ {BOUND}×: {'ok' if ratio <= BOUND else 'MISSED'}" if name == BOUND_OF else ""
            missed |= name == BOUND_OF and ratio > BOUND
            told = f"{len(model.weights)} weights: {seconds[0]:.1f} s as it is, {seconds[1]:.1f} s apart, {ratio:.2f}×"
            print(f"{name}, {size_mb:.0f} MB, {told}{bound}", flush=True)
    print("MISSED" if missed else "ok: weights are equal")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
