"""Measure what re-fitting and `obs` cost on large networks: time against training, memory against pruning.

* MobileNetV2 at 224×224, half of its MACs, re-fitted on 256 images: seconds, against one epoch of `model.fit` on 1,024
  images (batches of 32) of the same pruned network, taken in turns in one process. Wanted: at most 0.5×.
* Xception at 299×299, half of its MACs, re-fitted on 256 images: peak memory of the process, against that of pruning it
  by `hessian` (its samples as by default), each in a fresh process. Wanted: at most 1.3×.
* `obs` on Xception at 299×299 with 32 images: seconds of ranking, against `hessian`'s with the same images, in turns.
  Wanted: at most 3×.

Random weights and images; the figures do not depend on them. Exit status 1, and MISSED, if one is missed.

    python benchmarks/reconstruction_cost.py [--only mobilenet|memory|ranking] [--work DIR]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fresh import in_fresh_process
from resumable import DEFAULT_WORK, Results

IMAGES, EPOCH_IMAGES, RANKING_IMAGES, BATCH, TURNS = 256, 1_024, 32, 32, 2
THREADS = 2


def network(name: str, size: int) -> Any:
    """Return one of tf_keras.applications with random weights, so that every channel counts."""
    from stages.keras.tensorflow import import_keras
    from stages.prune.surgery.random_weights import randomize_weights

    applications = import_keras().applications
    return randomize_weights(getattr(applications, name)(weights=None, input_shape=(size, size, 3)))


def images(count: int, size: int) -> Any:
    import numpy as np

    return np.random.default_rng(0).uniform(-1, 1, (count, size, size, 3)).astype(np.float32)


def halved(model: Any, data: Any = None, **settings: Any) -> Any:
    from stages.prune import PruneConfig, prune_model

    return prune_model(model, PruneConfig.model_validate({"macs": 0.5, "round_to": 8, **settings}), data)


def refit_s(source: Any, pruned: Any, x: Any) -> float:
    """Return the seconds of reconstructing a copy of the pruned model."""
    import numpy as np

    from stages.keras.normal_form import copy_model
    from stages.reconstruct.config import ReconstructConfig
    from stages.reconstruct.reconstruction import reconstruct

    kept = {name: np.asarray(left) for name, left in pruned.report.kept.items()}
    model = copy_model(pruned.model)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        reconstruct(model, source, kept, len(x), lambda at: [x[at]], ReconstructConfig(samples=len(x)), 0, Path(folder))
        return time.perf_counter() - began


def mobilenet() -> dict[str, float]:
    """Time re-fitting and an epoch of training, in turns; the first turn of each is not counted."""
    import numpy as np

    from stages.keras.normal_form import copy_model
    from stages.keras.tensorflow import tensorflow_action

    with tensorflow_action(0, THREADS) as keras:
        source = network("MobileNetV2", 224)
        pruned, x, y = halved(source, criterion="l2"), images(EPOCH_IMAGES, 224), np.zeros(EPOCH_IMAGES, np.int64)
        trained = copy_model(pruned.model)
        trained.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy")
        trained.fit(x[:BATCH], y[:BATCH], batch_size=BATCH, verbose=0)  # traced before it is timed
        refits, epochs = [], []
        for _ in range(TURNS):
            refits.append(refit_s(source, pruned, x[:IMAGES]))
            began = time.perf_counter()
            trained.fit(x, y, batch_size=BATCH, verbose=0)
            epochs.append(time.perf_counter() - began)
    return {"seconds": statistics.median(refits), "against": statistics.median(epochs)}


def peak_mb(what: str) -> dict[str, float]:
    from stages.keras.tensorflow import tensorflow_action

    with tensorflow_action(0, THREADS):
        source, x = network("Xception", 299), images(IMAGES, 299)
        if what == "prune":
            halved(source, x, criterion="hessian", samples=RANKING_IMAGES)
        else:
            refit_s(source, halved(source, criterion="l2"), x)
    return {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def ranking() -> dict[str, float]:
    from stages.keras.tensorflow import tensorflow_action
    from stages.prune import PruneConfig, channel_groups
    from stages.prune.ranking.scoring import group_scores
    from stages.samples.model_samples import samples_of

    with tensorflow_action(0, THREADS):
        model = network("Xception", 299)
        groups, samples = channel_groups(model).prunable, samples_of(model, images(RANKING_IMAGES, 299))
        seconds: dict[str, list[float]] = {"obs": [], "hessian": []}
        for _ in range(TURNS):
            for criterion, times in seconds.items():
                config = PruneConfig.model_validate({"criterion": criterion, "samples": RANKING_IMAGES})
                began = time.perf_counter()
                group_scores(model, groups, config, 0, samples)
                times.append(time.perf_counter() - began)
    return {"seconds": statistics.median(seconds["obs"]), "against": statistics.median(seconds["hessian"])}


PARTS: Mapping[str, Callable[[], dict[str, float]]] = {
    "mobilenet": mobilenet,
    "memory of prune": lambda: peak_mb("prune"),
    "memory": lambda: peak_mb("reconstruct"),
    "ranking": ranking,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("mobilenet", "memory", "ranking"))
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(PARTS[options.one]()))
        return 0
    results, missed = Results(options.work, Path(__file__)), False

    def found(part: str) -> dict[str, float]:
        answer: dict[str, float] | None = results.get({"part": part})
        if answer is None:
            answer = in_fresh_process(__file__, "--one", part)
            results.add({"part": part}, answer)
        return answer

    def told(text: str, ratio: float, wanted: float) -> None:
        nonlocal missed
        missed |= ratio > wanted
        print(f"{text}: {ratio:.2f}×, wanted ≤ {wanted}×: {'MISSED' if ratio > wanted else 'ok'}", flush=True)

    if options.only in (None, "mobilenet"):
        times = found("mobilenet")
        text = f"MobileNetV2-224 re-fitted on {IMAGES} images {times['seconds']:.1f} s, an epoch on {EPOCH_IMAGES}"
        told(f"{text} {times['against']:.1f} s", times["seconds"] / times["against"], 0.5)
    if options.only in (None, "memory"):
        ours, theirs = found("memory")["peak_mb"], found("memory of prune")["peak_mb"]
        told(f"Xception-299 peak memory {ours:.0f} MB re-fitted, {theirs:.0f} MB pruned", ours / theirs, 1.3)
    if options.only in (None, "ranking"):
        times = found("ranking")
        text = f"Xception-299 ranked on {RANKING_IMAGES} images: obs {times['seconds']:.1f} s"
        told(f"{text}, hessian {times['against']:.1f} s", times["seconds"] / times["against"], 3.0)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
