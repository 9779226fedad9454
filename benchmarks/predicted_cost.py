"""Measure whether the cost that a search predicts is the cost on this CPU, over 30 variants of each of three networks.

Variants are drawn from the space that `secateur optimize` searches: budget, criterion and `round_to`. Nothing is
trained, since weights do not change how long a network takes. Each variant is exported in the file in which the search
measures, the fastest of the first network that it tries, and its latency is measured in turns with the source's. The
rank correlation (Spearman) is between the cost by which the search ranks before training, and that.

Exit status 1, and MISSED, unless it is at least 0.9 for each network. What is measured is kept in the store of
`--work`: a killed run resumes.

    python benchmarks/predicted_cost.py --data DIR [--networks demo …] [--variants 30] [--work DIR]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from resumable import DEFAULT_WORK
from search_cases import NAMES, case_of

WANTED, ROUNDS = 0.9, 5
MORE = {"demo": ", preprocess: {mode: tf}", "visual_wake_words": ", task: unlabelled"}  # about the data
RECIPE = """\
name: predicted-cost
seed: 7
model: {model}
data: {{source: npz, path: {data}, calibration: {{from: train, take: 256}}{more}}}
stages:
  - load
  - prune: {{criterion: obs, scope: loss, macs: 0.5, round_to: 8, search: 0}}
  - strip
  - quantize: {{schemes: [float32, int8, {{mixed: {{scheme: int8, faster_on: cpu}}}}]}}
  - export: {{formats: [tflite, onnx]}}
  - benchmark: {{targets: [cpu], rounds: {rounds}}}
search: {{objectives: [latency_ms, accuracy], constraints: {{accuracy_drop: 0.01}}}}
"""


def drawn(space: Any, count: int) -> list[dict[str, Any]]:
    """Return the settings of variants: budgets from low to high, one of each stretch, other settings at random."""
    rng = np.random.default_rng(0)
    low, high = np.log(space.bounds.low), np.log(space.bounds.high)
    places = (np.arange(count) + rng.uniform(0, 1, count)) / count
    budgets = np.exp(low + places * (high - low))
    others = [{key: choices[rng.integers(len(choices))] for key, choices in space.dimensions.items()} for _ in budgets]
    return [
        {**space.fixed, **other, space.budget: round(float(b), 4)} for b, other in zip(budgets, others, strict=True)
    ]


def measured(name: str, options: argparse.Namespace) -> tuple[str, list[tuple[float, float]]]:
    """Return the file that a search measures in, and the predicted and the measured share of each variant."""
    from pipeline.errors import SecateurError
    from pipeline.recipe.recipe import Recipe
    from pipeline.recipe.search_spec import SearchSpec
    from pipeline.running.run import run
    from pipeline.store import Store
    from stages.quantize.config import QuantizeConfig
    from stages.search.candidates import Candidate
    from stages.search.goal import goal_of
    from stages.search.levels import levels_of, share_left
    from stages.search.raising import Raising
    from stages.search.space import on_device, space_of
    from stages.search.workers import Here, unheard

    folder = options.work / "predicted_cost" / name
    case = case_of(name, options.data, folder)
    path, store = folder / "recipe.yaml", Store(folder / "store")
    path.write_text(RECIPE.format(model=case.model.name, data=case.data.name, more=MORE.get(name, ""), rounds=ROUNDS))
    recipe = Recipe.load(path)
    spec, levels = recipe.search or SearchSpec(), levels_of(recipe)
    goal = goal_of(recipe, spec)
    space = space_of(recipe, spec, goal, levels)
    raising = Raising(Candidate(path, {}), goal, levels, Here(store), unheard)
    file = raising.cheapest_file({**space.fixed, **space.usual, space.budget: 0.5})
    assert file is not None
    fastest = file.axis
    space, found = on_device(space, recipe, goal, levels, fastest), []
    file_format, _, scheme = fastest.partition("/")
    (known,) = [step.config.variants for step in recipe.steps if isinstance(step.config, QuantizeConfig)]
    made = {scheme: known[scheme].model_dump(mode="json", exclude_defaults=True)}
    alone = {"stages.quantize.schemes": [made], "stages.export.formats": [file_format]}
    for number, settings in enumerate(drawn(space, options.variants), 1):
        try:
            metrics = run(Candidate(path, settings | alone).recipe(), store.root).metrics
        except SecateurError as error:  # a budget below what the network can do
            print(f"{name} {number}: {error.what}", file=sys.stderr, flush=True)
            continue
        share = share_left(metrics, levels)
        assert share is not None
        found.append((share, metrics[f"{fastest}@cpu.latency_ratio"]))
        print(f"{name} {number}: {found[-1][0]:.3f} {found[-1][1]:.3f}", file=sys.stderr, flush=True)
    return fastest, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--variants", type=int, default=30)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    options = parser.parse_args()
    from stages.search.front import rank_correlation

    fine = True
    for name in options.networks:
        fastest, found = measured(name, options)
        rank = rank_correlation(found)
        met = rank is not None and rank >= WANTED
        fine = fine and met
        least, most = min(ratio for _, ratio in found), max(ratio for _, ratio in found)
        far = statistics.median(abs(share / ratio - 1) for share, ratio in found)
        print(
            f"{name:<18} {fastest:<15} Spearman {rank:.3f} of {len(found)} variants of {least:.2f} to {most:.2f} of the"
            f" source's latency, median difference {100 * far:.1f} %: {'ok' if met else 'MISSED'}",
            flush=True,
        )
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
