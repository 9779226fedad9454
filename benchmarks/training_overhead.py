"""Measure `finetune`'s cost: its epoch compared with one of a bare `model.fit` on the same `tf.data`.

A small residual network on images of 32×32, with dropout, flips and crops; both sides train the same number of epochs
with the same validation data, in one process, taking turns (A B C C B A): bare, finetune without checkpoints, finetune
with them. What is compared is the time from the end of one epoch to the end of the next, the first left out, when
graphs are made: for each pair of sides in a round the ratio of medians, then the median over rounds. Processor time is
reported too, since other load on the machine does not disturb it. Exit status 1 if a bound on wall time is missed.

    python benchmarks/training_overhead.py [--rounds 5] [--epochs 6] [--samples 4096]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

BOUNDS = {"finetune": 1.03, "finetune with checkpoints": 1.08}
BATCH, SIDE, CLASSES, SEED, THREADS = 64, 32, 10, 1, 2
SETTINGS = {"batch": BATCH, "schedule": "constant", "early_stopping": None}
Moment = tuple[float, float]  # wall and processor seconds
AUGMENT = {"flip": "horizontal", "crop": 4}


def images(name: str, samples: int) -> Any:
    import numpy as np

    from pipeline.data import Preprocess, Split

    rng = np.random.default_rng(len(name))
    x = rng.integers(0, 256, (samples, SIDE, SIDE, 3), dtype=np.uint8)
    return Split(name, f"sha256:{name}", x, rng.integers(0, CLASSES, samples), Preprocess(scale=1 / 128, offset=-1.0))


def network() -> Any:
    """Build a network as large as MLPerf Tiny's ResNet-8."""
    from stages.keras.tensorflow import import_keras

    layers = import_keras().layers
    image = import_keras().Input((SIDE, SIDE, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same", use_bias=False)(image)))
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        y = layers.Conv2D(filters, 3, stride, padding="same", use_bias=False)(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same", use_bias=False)(y))
        x = layers.ReLU()(layers.Add()([y, x if stride == 1 else layers.Conv2D(filters, 1, stride)(x)]))
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling2D()(x))
    return import_keras().Model(image, layers.Dense(CLASSES, activation="softmax")(x))


def configured(epochs: int) -> Any:
    from stages.finetune.config import FinetuneConfig

    return FinetuneConfig.model_validate({**SETTINGS, "epochs": epochs, "augment": AUGMENT})


def now() -> Moment:
    return time.perf_counter(), time.process_time()


def bare(train: Any, validation: Any, epochs: int) -> list[Moment]:
    """Return when each epoch of a `model.fit` ended."""
    from stages.finetune.augment import training_transform
    from stages.finetune.batches import steps_per_epoch, training_batches, validation_batches
    from stages.finetune.training import VALIDATION_BATCH
    from stages.keras.tensorflow import import_keras

    keras, config, ends = import_keras(), configured(epochs), []
    model = network()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

    class Clock(keras.callbacks.Callback):  # type: ignore[misc, name-defined]  # Keras has no types
        def on_epoch_end(self, _epoch: int, logs: Any = None) -> None:
            ends.append(now())

    model.fit(
        training_batches(train, BATCH, SEED, 0, epochs, training_transform(config, None, None)),
        validation_data=validation_batches(validation, VALIDATION_BATCH),
        epochs=epochs,
        steps_per_epoch=steps_per_epoch(len(train), BATCH),
        callbacks=[Clock()],
        verbose=0,
    )
    return ends


def tuned(train: Any, validation: Any, epochs: int, folder: Path | None) -> list[Moment]:
    """Return when each epoch of a fine-tuning ended its steps; its checkpoint counts towards the next."""
    from stages.finetune.checkpoints import Checkpoints
    from stages.finetune.training import fine_tune

    ends: list[Moment] = []

    def progress(done: float, _total: float, _what: str, _detail: str) -> None:
        if done and done == int(done):  # the weights before training are epoch 0
            ends.append(now())

    checkpoints = Checkpoints(folder) if folder else None
    fine_tune(network(), configured(epochs), train, validation, SEED, checkpoints, progress)
    return ends


def epoch_cost(side: Callable[[], list[Moment]]) -> Moment:
    """Return median wall and processor seconds of an epoch after the first."""
    from stages.keras.tensorflow import tensorflow_action

    with tensorflow_action(SEED, THREADS):
        ends = side()
    wall, cpu = ([later[i] - earlier[i] for earlier, later in pairwise(ends)] for i in (0, 1))
    return statistics.median(wall), statistics.median(cpu)


def measured(rounds: int, epochs: int, samples: int) -> dict[str, list[Moment]]:
    """Return the cost of an epoch of each side, one number per round; sides take turns, every other round backwards."""
    train, validation = images("train", samples), images("validation", samples // 8)
    costs: dict[str, list[Moment]] = {"bare": [], **{name: [] for name in BOUNDS}}
    for index in range(rounds):
        with tempfile.TemporaryDirectory(prefix="secateur-overhead-") as folder:
            sides: dict[str, Callable[[], list[Moment]]] = {
                "bare": lambda: bare(train, validation, epochs),
                "finetune": lambda: tuned(train, validation, epochs, None),
                "finetune with checkpoints": lambda folder=folder: tuned(train, validation, epochs, Path(folder)),  # type: ignore[misc]  # bound now
            }
            for name in list(sides) if index % 2 == 0 else reversed(sides):
                costs[name].append(epoch_cost(sides[name]))
        told = ", ".join(f"{name} {values[-1][0]:.2f} s" for name, values in costs.items())
        print(f"round {index + 1}: {told}", file=sys.stderr, flush=True)
    return costs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--samples", type=int, default=4096)
    options = parser.parse_args()
    costs = measured(options.rounds, options.epochs, options.samples)
    print(f"bare model.fit: {statistics.median(wall for wall, _ in costs['bare']):.2f} s an epoch")
    missed = False
    for name, bound in BOUNDS.items():
        wall, cpu = (
            [ours[i] / theirs[i] for ours, theirs in zip(costs[name], costs["bare"], strict=True)] for i in (0, 1)
        )
        ratio = statistics.median(wall)
        missed = missed or ratio > bound
        spread = f"[{min(wall):.3f}, {max(wall):.3f}]"
        verdict = f"bound {bound}×: {'ok' if ratio <= bound else 'MISSED'}"
        print(f"{name}: {ratio:.3f}× {spread}   {verdict}   processor time {statistics.median(cpu):.3f}×")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
