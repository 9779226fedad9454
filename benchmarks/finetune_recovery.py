"""Measure recovery: what fine-tuning regains for MLPerf Tiny's ResNet-8 on CIFAR-10 without half of its filters.

Filters are removed by l1 norm: by default half of those that can go alone, of the first convolution in each of the
three blocks, which no addition couples to others (52.8 % of the parameters stay). With `--cut all` half of every
layer's (25.8 % stay). Then four epochs on 10,000 training images (Adam 1e-3, cosine, batches of 64, flips) by
`stages.finetune`, as it comes (plain), after batch normalization was recalibrated on 2,000 of these images, with the
unpruned source as a teacher of outputs alone and of its blocks' outputs as well (distilled), and with the latter after
recalibration (both); compared with the unpruned control, tuned plainly. 1,000 other training images select the epoch
whose weights are kept. Accuracy is on all 10,000 test images, with three seeds.

Exit status 1 unless distillation is at least as good as plain, on average, and (by default) the best beats 79.87 %,
what l1 and plain fine-tuning gave before. Results are kept as they come: a killed run resumes.

    python benchmarks/finetune_recovery.py --data DIR [--cut all] [--seeds 3] [--work DIR]

For the contents of DIR, see public_models.py.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from public_models import cifar10, tiny_model_file
from resumable import DEFAULT_WORK, Results

TRAINING_IMAGES, VALIDATION_IMAGES, RECALIBRATION_IMAGES = 10_000, 1_000, 2_000
CUTS: dict[str, dict[str, Any]] = {
    "inner": {"layers": {"conv2d_1": 0.5, "conv2d_3": 0.5, "conv2d_6": 0.5}},
    "all": {"scope": "layer", "ratio": 0.5},
}
TO_BEAT = {"inner": 0.7987}
TUNING = {"epochs": 4, "batch": 64, "learning_rate": 1e-3, "schedule": "cosine", "early_stopping": None}
FLIPS = {"augment": {"flip": "horizontal"}}
THREADS = 2


@dataclass(frozen=True)
class Way:
    """Describe a way of recovering; `pruned` False is the control."""

    name: str
    pruned: bool = True
    recalibrated: bool = False
    distill: str | None = None  # one of LESSONS


LESSONS: dict[str, dict[str, Any]] = {
    # The teacher is hardly better than the student: labels count for more than its outputs.
    "outputs": {"weight": 0.2},
    # Its blocks' outputs say more, and the cut leaves as many channels there as it has.
    "features": {
        "weight": 0.2,
        "features": {"layers": ("activation_2", "activation_4", "activation_6"), "weight": 10.0},
    },
}
WAYS = (
    Way("control", pruned=False),
    Way("plain"),
    Way("recalibrated", recalibrated=True),
    Way("by outputs", distill="outputs"),
    Way("distilled", distill="features"),
    Way("both", recalibrated=True, distill="features"),
)


@cache
def split(data: Path, name: str) -> Any:
    """Return a split of CIFAR-10 as the model takes it."""
    from pipeline.data import Preprocess, Split

    x, y = cifar10(data, "test" if name == "test" else "train")
    if name != "test":
        first, count = (0, TRAINING_IMAGES) if name == "train" else (TRAINING_IMAGES, VALIDATION_IMAGES)
        x, y = x[first : first + count], y[first : first + count]
    return Split(name, f"sha256:{name}", x, y, Preprocess(scale=1 / 128, offset=-1.0))


@cache
def source(data: Path) -> Any:
    from stages.load import load_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet8.h5"
        path.write_bytes(tiny_model_file(data, "image_classification", "h5"))
        return load_model(path).model


def accuracy(model: Any, data: Path) -> float:
    """Return the accuracy on all test images."""
    test = split(data, "test")
    outputs = model.predict(test.inputs(), batch_size=500, verbose=0)
    return float((outputs.argmax(axis=1) == test.y).mean())


def start_of(way: Way, cut: str, data: Path) -> Any:
    """Return the model to fine-tune."""
    from stages.keras.normal_form import copy_model
    from stages.prune import PruneConfig, prune_model
    from stages.recalibrate.statistics import recalibrate

    if not way.pruned:
        return copy_model(source(data))
    model = prune_model(source(data), PruneConfig(criterion="l1", **CUTS[cut])).model
    if way.recalibrated:
        train = split(data, "train")
        recalibrate(model, (train.inputs(at, at + 250) for at in range(0, RECALIBRATION_IMAGES, 250)))
    return model


def recovered(way: Way, cut: str, seed: int, data: Path) -> dict[str, float]:
    """Return accuracies before and after, the share of parameters left, and the seconds of the fine-tuning."""
    from stages.finetune.config import FinetuneConfig
    from stages.finetune.training import fine_tune
    from stages.keras.tensorflow import tensorflow_action

    lesson = {"distill": LESSONS[way.distill]} if way.distill else {}
    config = FinetuneConfig.model_validate({**TUNING, **FLIPS, **lesson})
    with tensorflow_action(seed, THREADS):
        teacher, model = source(data), start_of(way, cut, data)
        share, before = model.count_params() / teacher.count_params(), accuracy(model, data)
        began = time.perf_counter()
        fine_tune(model, config, split(data, "train"), split(data, "validation"), seed, teacher=teacher)
        seconds = time.perf_counter() - began
        return {"params": share, "before": before, "after": accuracy(model, data), "seconds": seconds}


def all_results(results: Results, cut: str, seeds: Sequence[int], data: Path) -> dict[Way, list[dict[str, float]]]:
    """Return the results of each way with each seed, from the file or made now."""
    found: dict[Way, list[dict[str, float]]] = {way: [] for way in WAYS}
    for seed in seeds:
        for way in WAYS:
            case = {"way": way.name, "cut": cut if way.pruned else None, "seed": seed}
            answer = results.get(case)
            if answer is None:
                answer = recovered(way, cut, seed, data)
                results.add(case, answer)
                told = f"{answer['before']:.2%} → {answer['after']:.2%}, {answer['seconds']:.0f} s"
                print(f"{way.name} seed {seed}: {told}", file=sys.stderr, flush=True)
            found[way].append(answer)
    return found


def report(found: dict[Way, list[dict[str, float]]], to_beat: float | None) -> int:
    """Print the table and the verdict; return the exit status."""
    print(f"{'':14}{'parameters':>11}{'before':>9}   after: mean [least, largest]{'seconds':>10}")
    means = {}
    for way, answers in found.items():
        after = [answer["after"] for answer in answers]
        means[way.name] = statistics.mean(after)
        spread = f"{means[way.name]:.2%} [{min(after):.2%}, {max(after):.2%}]"
        seconds = statistics.median(answer["seconds"] for answer in answers)
        print(f"{way.name:14}{answers[0]['params']:>11.1%}{answers[0]['before']:>9.2%}   {spread:30}{seconds:>8.0f}")
    best = max((name for name in means if name != "control"), key=partial(dict.__getitem__, means))
    checks = {
        f"distilled {means['distilled']:.2%} ≥ plain {means['plain']:.2%}": means["distilled"] >= means["plain"],
    }
    if to_beat is not None:
        checks[f"{best} {means[best]:.2%} > {to_beat:.2%}"] = means[best] > to_beat
    for text, ok in checks.items():
        print(f"{text}: {'ok' if ok else 'MISSED'}")
    return 0 if all(checks.values()) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cut", choices=list(CUTS), default="inner")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    options = parser.parse_args()
    results = Results(options.work, Path(__file__))
    found = all_results(results, options.cut, range(options.seeds), options.data)
    return report(found, TO_BEAT.get(options.cut))


if __name__ == "__main__":
    raise SystemExit(main())
