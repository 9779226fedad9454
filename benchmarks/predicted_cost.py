"""Measure whether the cost that a search predicts is the cost on this CPU, over 30 variants of each of three networks.

Variants are drawn from the space that `secateur optimize` searches: budget, criterion and `round_to`. Nothing is
trained, since weights do not change how long a network takes. Each variant is exported in all files that are searched,
and its latency is measured in turns with the source's in the same file. The rank correlation (Spearman) is between the
cost that the search ranks by before anything is exported, and what was measured.

Exit status 1, and MISSED, unless it is at least 0.9 for the fastest file of each network. What is measured is kept in
the store of `--work`: a killed run resumes.

    python benchmarks/predicted_cost.py --data DIR [--networks demo …] [--variants 30] [--work DIR]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from resumable import DEFAULT_WORK
from search_cases import NAMES, case_of

WANTED, ROUNDS = 0.9, 6
AXES = ("tflite/float32", "tflite/int8", "onnx/float32", "onnx/int8")
RECIPE = """\
name: predicted-cost
seed: 7
model: {model}
data: {{source: npz, path: {data}, calibration: {{from: train, take: 256}}{task}}}
stages:
  - load
  - prune: {{criterion: obs, scope: loss, macs: 0.5, round_to: 8, search: 0}}
  - strip
  - quantize: {{schemes: [float32, int8]}}
  - export: {{formats: [tflite, onnx]}}
  - benchmark: {{targets: [cpu], rounds: {rounds}}}
search: {{objectives: [latency_ms, accuracy]}}
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


def measured(name: str, options: argparse.Namespace) -> list[tuple[float, dict[str, float], dict[str, float]]]:
    """Return the predicted share, the measured ratios and the source's latencies in ms, of a network's variants."""
    from pipeline.errors import SecateurError
    from pipeline.recipe.recipe import Recipe
    from pipeline.recipe.search_spec import SearchSpec
    from pipeline.running.run import run
    from stages.search.candidates import Candidate
    from stages.search.goal import goal_of
    from stages.search.levels import levels_of, share_left
    from stages.search.space import space_of

    folder = options.work / "predicted_cost" / name
    case = case_of(name, options.data, folder)
    path = folder / "recipe.yaml"
    task = ", task: unlabelled" if name == "visual_wake_words" else ""
    path.write_text(RECIPE.format(model=case.model.name, data=case.data.name, task=task, rounds=ROUNDS))
    recipe = Recipe.load(path)
    spec, levels = recipe.search or SearchSpec(), levels_of(recipe)
    space = space_of(recipe, spec, goal_of(recipe, spec), levels)
    found = []
    for number, settings in enumerate(drawn(space, options.variants), 1):
        try:
            metrics = run(Candidate(path, settings).recipe(), folder / "store").metrics
        except SecateurError as error:  # a budget below what the network can do
            print(f"{name} {number}: {error.what}", file=sys.stderr, flush=True)
            continue
        share = share_left(metrics, levels)
        assert share is not None
        ratios = {axis: metrics[f"{axis}@cpu.latency_ratio"] for axis in AXES}
        found.append((share, ratios, {axis: metrics[f"{axis}@cpu.baseline_p50_ms"] for axis in AXES}))
        print(f"{name} {number}: {share:.3f} {ratios}", file=sys.stderr, flush=True)
    return found


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
        found = measured(name, options)
        fastest = min(AXES, key=lambda axis: float(np.median([p50[axis] * r[axis] for _, r, p50 in found])))
        for axis in AXES:
            rank = rank_correlation([(share, ratios[axis]) for share, ratios, _ in found])
            least, most = min(r[axis] for _, r, _ in found), max(r[axis] for _, r, _ in found)
            told = f"{name:<18} {axis:<15} Spearman {rank:.3f} of {len(found)}, measured {least:.2f} to {most:.2f}"
            if axis == fastest:
                met = rank is not None and rank >= WANTED
                fine, told = fine and met, f"{told}, the fastest: {'ok' if met else 'MISSED'}"
            print(told, flush=True)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
