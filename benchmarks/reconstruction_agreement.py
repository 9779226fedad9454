"""Measure re-fitting where there are no labels: how often MLPerf Tiny's other networks agree with themselves, halved.

Keyword spotting (DS-CNN) and visual wake words (MobileNetV1 0.25), cut to half of their MACs by `obs` with scope
`loss`: the share of inputs with the source's class, and the error of the outputs before the softmax relative to their
variance, right after the cut and re-fitted, on 1,000 inputs that nothing was fitted on. The data that the networks were
trained on is in no registry: images are CIFAR-10's, enlarged; spectrograms are smooth noise, which says less.

Exit status 1 unless re-fitting raises the agreement of both.

    python benchmarks/reconstruction_agreement.py --data DIR        # contents of DIR: see public_models.py
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from public_models import TinyModel, cifar10, tiny_model_file
from reconstruction import THREADS, refitted

FITTED, JUDGED = 1_024, 1_000


def enlarged(data: Path, shape: tuple[int, ...]) -> Any:
    """Return CIFAR-10's images in another size, 0…255, as the network was trained: it says one class for all of 0…1."""
    import tensorflow as tf

    x, _ = cifar10(data, "test")
    return tf.image.resize(x[: FITTED + JUDGED], shape[:2]).numpy().astype("float32")


def smooth_noise(_data: Path, shape: tuple[int, ...]) -> Any:
    """Return noise that is smooth along both axes, with the level of each input drawn."""
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.standard_normal((FITTED + JUDGED, *shape))
    for axis in (1, 1, 2):
        x = (x + np.roll(x, 1, axis) + np.roll(x, 2, axis)) / 3**0.5
    level = rng.normal(0, 1, (len(x), *(1 for _ in shape)))
    return (20 * (x + level)).astype(np.float32)


NETWORKS: Mapping[TinyModel, Callable[[Path, tuple[int, ...]], Any]] = {
    "keyword_spotting": smooth_noise,
    "visual_wake_words": enlarged,
}


def measured(name: TinyModel, data: Path) -> tuple[float, float]:
    """Print the line of a network; return its agreement before and after re-fitting."""
    from pipeline.data import Preprocess, Split
    from stages.keras.macs import count_macs
    from stages.keras.tensorflow import tensorflow_action
    from stages.load import load_model
    from stages.prune import PruneConfig, prune_model

    with tensorflow_action(0, THREADS), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.h5"
        path.write_bytes(tiny_model_file(data, name, "h5"))
        source = load_model(path).model
        x = NETWORKS[name](data, tuple(source.input_shape[1:]))
        train = Split("train", "sha256:0", x[:FITTED], None, Preprocess(), "unlabelled")
        config = PruneConfig.model_validate({"criterion": "obs", "scope": "loss", "macs": 0.5, "samples": FITTED})
        chosen = prune_model(source, config, train, 0)
        share = count_macs(chosen.model) / count_macs(source)
        before = agreement(source, chosen.model, x[FITTED:])
        after = agreement(source, refitted(source, chosen, train, FITTED, 0), x[FITTED:])
    print(f"{name:18} {share:.3f} of the MACs: same class {before[0]:.1%} → {after[0]:.1%}, ", end="")
    print(f"error of the outputs {before[1]:.3f} → {after[1]:.3f}", flush=True)
    return before[0], after[0]


def agreement(source: Any, model: Any, x: Any) -> tuple[float, float]:
    """Return the share of inputs with the same class, and the relative error before the softmax."""
    from stages.keras.closing import before_squashing

    outputs = []
    for each in (source, model):
        with before_squashing(each) as open_ended:
            outputs.append(open_ended.predict(x, batch_size=250, verbose=0).astype("float64"))
    wanted, found = outputs
    error = ((found - wanted) ** 2).sum(axis=1).mean() / wanted.var(axis=0).sum()
    return float((found.argmax(axis=1) == wanted.argmax(axis=1)).mean()), float(error)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    pairs = [measured(name, options.data) for name in NETWORKS]
    return 0 if all(after > before for before, after in pairs) else 1


if __name__ == "__main__":
    raise SystemExit(main())
