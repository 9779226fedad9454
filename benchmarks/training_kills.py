"""Kill a fine-tuning at random moments: does it produce the same digest as an uninterrupted one?

A small network with dropout and batch normalization learns noisy images with flips, crops, shifts and mixup, in a
separate process that keeps checkpoints. Once it runs uninterrupted. Then, for each run, it is killed (SIGKILL) at
random moments between the first step and the last, including while graphs are made or checkpoints written, and
restarted until it ends. The digest is that of the stored model and of the training's history. Exit status 1 if one
differs.

    python benchmarks/training_kills.py [--runs 20] [--kills 1] [--seed 0] [--images 9600]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SEED, THREADS, SIDE, CLASSES = 7, 2, 12, 3
SETTINGS = {
    "epochs": 8,
    "batch": 16,
    "learning_rate": 0.003,
    "early_stopping": 4,
    "augment": {"flip": "horizontal", "crop": 1, "shift": 0.1},
    "mixup": 0.2,
}
BEGUN = "begun"
LATEST = 0.9  # of the duration of a training: a kill after its end would be ineffective


@dataclass(frozen=True)
class Ended:
    """Hold how a process ended: its last message (None if it was killed), and how long its training ran."""

    answer: dict[str, Any] | None
    seconds: float


def splits(count: int) -> tuple[Any, Any]:
    """Return `count` images of stripes in three directions, noisy; an eighth of them is held out."""
    import numpy as np

    from pipeline.data import Preprocess, Split

    rng = np.random.default_rng(SEED)
    y = np.arange(count) % CLASSES
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    x = 128 + 60 * np.sin(np.stack([rows, columns, rows + columns])[y] * 1.5) + rng.normal(0, 60, (count, SIDE, SIDE))
    images = np.clip(x, 0, 255).astype(np.uint8)[..., None]
    held_out = np.arange(count) % 8 == 0
    scale = Preprocess(scale=1 / 128, offset=-1.0)
    train = Split("train", "sha256:train", images[~held_out], y[~held_out], scale)
    return train, Split("validation", "sha256:validation", images[held_out], y[held_out], scale)


def network() -> Any:
    from stages.keras.tensorflow import import_keras

    layers = import_keras().layers
    image = import_keras().Input((SIDE, SIDE, 1))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2, padding="same")(image)))
    x = layers.SpatialDropout2D(0.1)(layers.SeparableConv2D(12, 3, padding="same", activation="relu")(x))
    x = layers.GaussianNoise(0.05)(layers.GlobalAveragePooling2D()(x))
    return import_keras().Model(image, layers.Dense(CLASSES, activation="softmax")(layers.Dropout(0.2)(x)))


def train(folder: Path, images: int) -> dict[str, Any]:
    """Train, or resume from what is in the folder; return the digest, and how many epochs existed already."""
    from stages.finetune.checkpoints import Checkpoints
    from stages.finetune.config import FinetuneConfig
    from stages.finetune.training import fine_tune
    from stages.keras.normal_form import encode_model
    from stages.keras.tensorflow import tensorflow_action

    config = FinetuneConfig.model_validate(SETTINGS)
    with tensorflow_action(SEED, THREADS):
        model = network()
        print(BEGUN, flush=True)
        result = fine_tune(model, config, *splits(images), SEED, Checkpoints(folder))
        digest = hashlib.sha256(encode_model(result.model) + json.dumps(result.history).encode()).hexdigest()
    return {"digest": digest, "resumed_from": result.resumed_from, "epochs": len(result.history["loss"])}


def process(folder: Path, images: int, kill_after_s: float | None = None) -> Ended:
    """Train in a separate process, killed this long after it has begun."""
    command = [sys.executable, str(Path(__file__).resolve()), "--images", str(images), "--train", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        if child.stdout is None or child.stderr is None:
            raise SystemExit("a pipe is missing")
        began, said = 0.0, []
        timer = threading.Timer(kill_after_s or 0, child.kill)
        for line in child.stdout:
            if line.strip() != BEGUN:
                said.append(line)
                continue
            began = time.perf_counter()
            if kill_after_s is not None:
                timer.start()
        timer.cancel()
        errors = child.stderr.read()
    seconds = time.perf_counter() - began
    if child.returncode == 0:
        return Ended(json.loads(said[-1]), seconds)
    if child.returncode > 0 or kill_after_s is None:
        raise SystemExit(f"a training ended with {child.returncode}\n{errors[-3000:]}")
    return Ended(None, seconds)


def killed_run(images: int, kills: int, duration_s: float, rng: random.Random) -> tuple[str, int]:
    """Return the digest after all kills, and the epoch from which the last process resumed."""
    with tempfile.TemporaryDirectory(prefix="secateur-kills-") as folder:
        done = 0
        while done < kills:
            ended = process(Path(folder), images, rng.uniform(0, LATEST * duration_s / kills))
            if ended.answer is not None:  # it was faster than the first: that was not a kill
                return killed_run(images, kills, LATEST * duration_s, rng)
            done += 1
        last = process(Path(folder), images).answer
        if last is None:
            raise SystemExit("the last process was killed by somebody else")
        return last["digest"], last["resumed_from"]


def report(expected: dict[str, Any], found: Sequence[tuple[str, int]]) -> int:
    """Print the result of all runs; return the exit status."""
    wrong = sum(digest != expected["digest"] for digest, _ in found)
    resumed = sorted(epochs for _, epochs in found)
    print(f"left alone: {expected['epochs']} epochs, sha256:{expected['digest'][:16]}…")
    print(f"killed: {len(found)} runs, the last process of each went on after epochs {resumed}")
    print(f"{len(found) - wrong} of {len(found)} ended in the same digest: {'MISSED' if wrong else 'ok'}")
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--kills", type=int, default=1, help="in each run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--images", type=int, default=9600, help="more of them let more kills fall between epochs")
    parser.add_argument("--train", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        print(json.dumps(train(options.train, options.images)))
        return 0
    with tempfile.TemporaryDirectory(prefix="secateur-kills-") as folder:
        alone = process(Path(folder), options.images)
    if alone.answer is None:
        raise SystemExit("the first process was killed by somebody else")
    rng, found = random.Random(options.seed), []
    for run in range(options.runs):
        found.append(killed_run(options.images, options.kills, alone.seconds, rng))
        told = "same digest" if found[-1][0] == alone.answer["digest"] else "ANOTHER DIGEST"
        print(f"run {run + 1}: went on after epoch {found[-1][1]}, {told}", file=sys.stderr, flush=True)
    return report(alone.answer, found)


if __name__ == "__main__":
    raise SystemExit(main())
