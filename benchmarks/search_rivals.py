"""Does a search find a better front than Optuna alone and random search find in the same minutes?

The demo's network and data, and the recipe that `secateur optimize` writes, for a float32 TFLite file on this machine.
Ours searches as `secateur search` does, for the front of latency and accuracy. The rivals propose a criterion, a ratio
for each channel group, and epochs: Optuna by its tree-structured Parzen estimator for several objectives (as many
trials at random before it as in our search, fewer than its default, which would take up the minutes), random search
uniformly. Each of their trials is pruned, re-fitted and trained with the source as teacher, by the same engine and with
the same settings as ours, from an empty store. A trial that begins in time is finished and counts. What is in their
favor: within its minutes, ours exports and measures finalists as well, and they are given the re-fitting.

Trials are judged by validation data and the MACs left. At most six points of each front are then exported: accuracy is
that of the file on test data, and latency is measured in turns with the source's file. Hypervolumes are those of
(latency ratio, points of accuracy lost) and of (MACs left, points lost), up to (1, 10 points). Exit status 1, and
MISSED, unless ours of latency is at least 1.1 times that of either rival. Results are kept as they come: a killed run
resumes after the last whole search.

    python benchmarks/search_rivals.py [--minutes 8] [--seed 7] [--images 4000] [--work DIR]
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fresh import ROOT, in_fresh_process
from resumable import DEFAULT_WORK, Results

from stages.search.front import front, hypervolume

ASSETS = ROOT / "configs" / "assets"
OURS, OPTUNA, RANDOM = METHODS = ("ours", "optuna", "random")
CRITERIA = ("l1", "l2", "fpgm", "bn_scale", "taylor")
EPOCHS = (5, 10, 20)
MOST_PRUNED = 0.9  # of a group's channels
AXIS, TARGET = "tflite/float32", "cpu"
JUDGED_ON_VALIDATION = {"data.judge_on": "validation", "control": False}
MOST_POINTS, REFERENCE, BETTER = 6, (1.0, 10.0), 1.1

Point = Mapping[str, Any]


def prepare(folder: Path, minutes: float, seed: int, images: int) -> None:
    """Write the data, the recipe that all methods vary, and the same for rivals, with ratios by layer."""
    import numpy as np

    from stages.commands.optimize import write_search
    from stages.commands.starting.first_recipe import Wanted

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ASSETS / "mini_xception.keras", folder / "mini_xception.keras")
    with np.load(ASSETS / "fashion_mnist.npz") as data:
        np.savez_compressed(folder / "data.npz", **{name: data[name][:images] for name in data.files})
    budget = f"budget: {{trials: 1000, minutes: {minutes:g}}}"
    goal = f"{{objectives: [{AXIS}@{TARGET}.latency_ms, accuracy], {budget}}}"
    wanted = Wanted(TARGET, ("tflite",), search=goal)
    file = write_search(folder / "mini_xception.keras", folder / "data.npz", folder / "ours.yaml", wanted)
    text = with_line(file.read_text(), "seed: ", str(seed))
    text = with_line(text, "  - quantize: ", "{schemes: [float32]}")
    file.write_text(text)
    by_layer = f"{{criterion: l2, layers: {json.dumps(dict.fromkeys(prunable(folder), 0.5))}, round_to: 8}}"
    (folder / "rivals.yaml").write_text(with_line(text, "  - prune: ", by_layer))


def with_line(text: str, start: str, rest: str) -> str:
    """Return text whose one line that begins with `start` goes on with `rest`."""
    changed, count = re.subn(f"^{start}.*$", lambda _: start + rest, text, flags=re.MULTILINE)
    if count != 1:
        raise SystemExit(f"optimize writes {count} lines that begin with {start!r}")
    return changed


def base_of(method: str, folder: Path) -> Path:
    return folder / ("ours.yaml" if method == OURS else "rivals.yaml")


def prunable(folder: Path) -> list[str]:
    """Return the channel groups that can be pruned, each named by the first layer that makes it."""
    from stages.load import load_model
    from stages.prune import channel_groups

    groups = channel_groups(load_model(folder / "mini_xception.keras").model).groups
    return [group.makers[0] for group in groups if not group.frozen]


def search_as_we_do(folder: Path) -> dict[str, Any]:
    """Return all trained candidates of a search as `secateur search` runs it, and where the time went."""
    from pipeline.store import Store
    from stages.search.candidates import Candidate
    from stages.search.study import Study
    from stages.search.workers import Here

    store = Store(folder / "store")
    found = Study(Candidate(folder / "ours.yaml", {}), store, Here(store)).run(lambda _: None)
    trained = [(trial, reached) for trial in found.trials if (reached := trial.at("trained")) is not None]
    trials = [{"settings": t.settings, "share": at.share, "accuracy": at.accuracy} for t, at in trained]
    # Finalists are trials from above: only their last level is new.
    levels = [*(at for trial in found.trials for at in trial.reached), *(t.reached[-1] for t in found.finalists)]
    spent = {name: sum(at.wall_s for at in levels if at.level == name) for name in ("fitted", "trained", "measured")}
    return {"trials": trials, "tried": len(found.trials), "spent_s": spent}


def search_by_optuna(folder: Path, minutes: float, seed: int, *, at_random: bool) -> dict[str, Any]:
    """Return all trials that a sampler of Optuna proposed, each trained in full."""
    import optuna

    from pipeline import run
    from pipeline.errors import SecateurError
    from stages.search.candidates import Candidate
    from stages.search.explore import STARTUP
    from stages.search.levels import accuracy_of, levels_of, share_left

    begun, samplers = time.monotonic(), optuna.samplers
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    base = folder / "rivals.yaml"
    recipe = Candidate(base, {}).recipe()
    levels, groups = levels_of(recipe), list(recipe.source.data["stages"][1]["prune"]["layers"])
    # Both would begin with the same proposals if they had one seed.
    sampler = (
        samplers.RandomSampler(seed=seed + 1) if at_random else samplers.TPESampler(n_startup_trials=STARTUP, seed=seed)
    )
    study, trials = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler), []
    while time.monotonic() - begun < 60 * minutes:
        asked = study.ask()
        settings, level = proposed(asked, groups), levels.before_files
        try:
            ended = run(Candidate(base, settings | JUDGED_ON_VALIDATION).recipe(), folder / "store", until=level.until)
        except SecateurError as error:
            print(f"{settings}: {error}", file=sys.stderr)
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
            continue
        share, accuracy = share_left(ended.metrics, levels), accuracy_of(ended.metrics, level.named)
        study.tell(asked, [share, accuracy])
        trials.append({"settings": settings, "share": share, "accuracy": accuracy})
    by_chance = len(study.trials) if at_random else min(STARTUP, len(study.trials))
    return {"trials": trials, "tried": len(study.trials), "by_chance": by_chance, "spent_s": {}}


def proposed(asked: Any, groups: Sequence[str]) -> dict[str, Any]:
    """Return the settings of a rival's trial."""
    return {
        "stages.prune.criterion": asked.suggest_categorical("criterion", CRITERIA),
        "stages.prune.layers": {name: round(asked.suggest_float(name, 0.0, MOST_PRUNED), 4) for name in groups},
        "stages.finetune.epochs": asked.suggest_categorical("epochs", EPOCHS),
    }


def search_one(method: str, folder: Path, minutes: float, seed: int) -> dict[str, Any]:
    """Return what a method found with an empty store, and the seconds that it took."""
    begun = time.monotonic()
    shutil.rmtree(folder / "store", ignore_errors=True)
    if method == OURS:
        found = search_as_we_do(folder)
    else:
        found = search_by_optuna(folder, minutes, seed, at_random=method == RANDOM)
    return found | {"seconds": round(time.monotonic() - begun, 1)}


def chosen(trials: Sequence[Point]) -> list[Point]:
    """Return the front by what the method knew, thinned evenly to a few points."""
    best = front(trials, known)
    last, kept = len(best) - 1, min(len(best), MOST_POINTS)
    return [best[round(place * last / max(kept - 1, 1))] for place in range(kept)]


def known(trial: Point) -> tuple[float, float]:
    """Return what a method knew of a trial, as two numbers that are to be low."""
    return trial["share"], -trial["accuracy"]


def judge(base: Path, settings: Mapping[str, Any]) -> dict[str, float]:
    """Return what a point is on test data, and on this machine; its training is in the store."""
    from pipeline import run
    from stages.search.candidates import Candidate
    from stages.search.levels import accuracy_of, levels_of, share_left

    recipe = Candidate(base, {**settings, "control": False}).recipe()
    metrics = run(recipe, base.parent / "store").metrics
    source, share = accuracy_of(metrics, "source"), share_left(metrics, levels_of(recipe))
    assert source is not None
    assert share is not None
    lost = 100 * (source - metrics[f"{AXIS}.accuracy"])
    return {"share": share, "latency_ratio": metrics[f"{AXIS}@{TARGET}.latency_ratio"], "lost": lost}


def volume(points: Sequence[Point], cost: str) -> float:
    """Return the hypervolume of judged points."""
    return hypervolume([(point[cost], point["lost"]) for point in points], REFERENCE)


def tell_search(method: str, found: Mapping[str, Any]) -> None:
    """Print how far a method came."""
    spent = ", ".join(f"{level} {seconds:.0f} s" for level, seconds in found["spent_s"].items())
    trained, tried = len(found["trials"]), found["tried"]
    print(
        f"{method}: {tried} trials, {trained} trained, {found['seconds']:.0f} s {f'({spent})' if spent else ''}".strip()
    )
    for point in front(found["trials"], known):
        print(f"    knew: {point['share']:.3f} of the MACs, accuracy {point['accuracy']:.4f}", flush=True)


def report(fronts: Mapping[str, Sequence[Point]]) -> bool:
    """Print the fronts and their hypervolumes; return whether ours is as much larger as wanted."""
    print(f"\n{'front':<8}{'latency':>9}{'MACs':>8}{'lost, points':>14}")
    for method, points in fronts.items():
        for point in points:
            print(f"{method:<8}{point['latency_ratio']:>9.3f}{point['share']:>8.3f}{point['lost']:>14.2f}")
    print(f"\n{'hypervolume':<28}{'latency':>9}{'MACs':>8}")
    latency, macs = (
        {method: volume(points, cost) for method, points in fronts.items()} for cost in ("latency_ratio", "share")
    )
    for method in fronts:
        print(f"{method:<28}{latency[method]:>9.3f}{macs[method]:>8.3f}")
    fine = True
    for rival in (OPTUNA, RANDOM):
        ratios = [volumes[OURS] / volumes[rival] if volumes[rival] else float("inf") for volumes in (latency, macs)]
        fine &= ratios[0] >= BETTER
        verdict = "ok" if ratios[0] >= BETTER else "MISSED"
        print(f"{f'ours / {rival}':<28}{ratios[0]:>9.3f}{ratios[1]:>8.3f}  latency ≥ {BETTER}: {verdict}")
    return fine


def main() -> int:
    if sys.argv[1:2] == ["--one"]:
        method, folder, minutes, seed = sys.argv[2:]
        print(json.dumps(search_one(method, Path(folder), float(minutes), int(seed))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="of each method")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--images", type=int, default=4000, help="of each split, at most")
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    options = parser.parse_args()
    results, fronts = Results(options.work, Path(__file__)), dict[str, list[Point]]()
    asked = {"minutes": options.minutes, "seed": options.seed, "images": options.images}
    folders = {method: options.work.resolve() / "search_rivals" / method for method in METHODS}
    for method, folder in folders.items():
        case = {**asked, "method": method}
        found = results.get(case)
        if found is None:
            shutil.rmtree(folder, ignore_errors=True)
            prepare(folder, **asked)
            arguments = (method, str(folder), str(options.minutes), str(options.seed))
            found = in_fresh_process(__file__, "--one", *arguments)
            results.add(case, found)
        tell_search(method, found)
        fronts[method] = chosen(found["trials"])
    judged: dict[str, list[Point]] = {method: [] for method in METHODS}
    for method, points in fronts.items():
        for point in points:
            case = {**asked, "method": method, "judged": point["settings"]}
            found = results.get(case)
            if found is None:
                found = judge(base_of(method, folders[method]), point["settings"])
                results.add(case, found)
            judged[method].append(found)
    return 0 if report(judged) else 1


if __name__ == "__main__":
    sys.exit(main())
