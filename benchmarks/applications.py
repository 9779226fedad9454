"""Prune every network of tf_keras.applications and prove the result: is surgery exact, and how much can go?

Each model gets random weights, with all scales, shifts and statistics (batch normalization's, LayerScale's) randomized
so that every channel counts, and the smallest input it takes. It is pruned at 50 % by l2, over the whole network,
rounded to 8; the first model of each family also at 30 %, rounded to 1. Each is a fresh process; a line is printed when
it ends, and written to a state file, so that a killed run resumes (results of other code are ignored).

For each: groups, frozen ones and why, parameters and MACs before and after, the largest output difference from the
masked original relative to the largest output (before a closing softmax), what masking changes in the original, seconds
of prune_model, peak memory of the process, and whether the result was saved, loaded and trained for a step.

Exit status 1 unless all are exact (at most 1e-4, with masking changing more than 1e-3), all are saved, loaded and
trained, and at least 60 of the 71 lose at least 40 % of their MACs at 50 %.

    python benchmarks/applications.py [--work DIR] [--only PATTERN]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fresh import in_fresh_process
from resumable import DEFAULT_WORK, Results

EXACT, EFFECT = 1e-4, 1e-3
LESS_MACS, MODELS_WITH_LESS = 0.4, 60
SIZES = (32, 71, 75, 224)  # the smallest that works is used
CLASSES = 10


@dataclass(frozen=True)
class Case:
    """Describe one model, pruned in one way."""

    model: str
    ratio: float
    round_to: int


@dataclass(frozen=True)
class Result:
    """Hold the result of a case. `frozen_macs` is the share of MACs in layers of which no channel can go."""

    input_size: int
    layers: int
    groups: int
    frozen_groups: int
    frozen_reasons: dict[str, int]
    frozen_macs: float
    params_before: int
    params_after: int
    macs_before: int
    macs_after: int
    error: float
    effect: float
    prune_s: float
    peak_mb: float
    saved_difference: float
    training_loss: float
    trained: bool

    @property
    def removed_macs(self) -> float:
        return 1 - self.macs_after / self.macs_before

    @property
    def exact(self) -> bool:
        return self.error <= EXACT and self.effect > EFFECT and self.trained and self.saved_difference <= EXACT


def builders() -> dict[str, str]:
    """Return the public function of each model, and its family (module), in the order of definition."""
    import importlib
    import inspect
    import pkgutil

    from stages.keras.tensorflow import import_keras

    public = set(dir(import_keras().applications))
    home = importlib.import_module("tf_keras.src.applications")
    found = {}
    for info in pkgutil.iter_modules(home.__path__):
        module = importlib.import_module(f"{home.__name__}.{info.name}")
        for name, value in vars(module).items():
            if name in public and inspect.isfunction(value) and value.__module__ == module.__name__:
                found[name] = info.name
    return found


def cases(families: dict[str, str]) -> Iterator[Case]:
    seen = set()
    for model, family in families.items():
        yield Case(model, 0.5, 8)
        if family not in seen:
            yield Case(model, 0.3, 1)
        seen.add(family)


def measure(case: Case) -> Result:
    """Measure one case in this process."""
    import resource

    from stages.keras.tensorflow import import_keras
    from stages.prune import PruneConfig, channel_groups, prune_model

    import_keras().utils.set_random_seed(1)
    model, size = smallest(case.model)
    shake(model)
    config = PruneConfig(criterion="l2", scope="global", ratio=case.ratio, round_to=case.round_to)
    began = time.perf_counter()
    pruned = prune_model(model, config)
    prune_s = time.perf_counter() - began
    graph, report = channel_groups(model), pruned.report
    layers, frozen = len(model.layers), frozen_share(model, graph)
    del model
    difference, loss, trained = used(pruned.model)
    return Result(
        input_size=size,
        layers=layers,
        groups=len(report.groups),
        frozen_groups=sum(bool(group.frozen) for group in report.groups),
        frozen_reasons=dict(Counter(why.partition(": ")[2] for group in report.groups for why in group.frozen[:1])),
        frozen_macs=frozen,
        params_before=report.params_before,
        params_after=report.params_after,
        macs_before=report.macs_before,
        macs_after=report.macs_after,
        error=report.equivalence_error,
        effect=report.masking_effect,
        prune_s=prune_s,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        saved_difference=difference,
        training_loss=loss,
        trained=trained,
    )


def smallest(name: str) -> tuple[Any, int]:
    """Return the model at the smallest input it takes, and that input's height and width."""
    from stages.keras.tensorflow import import_keras

    build = getattr(import_keras().applications, name)
    for size in SIZES:
        try:
            return build(weights=None, input_shape=(size, size, 3), classes=CLASSES), size
        except ValueError as error:
            refused = error
    raise refused


def shake(model: Any) -> None:
    """Randomize scales and variances around 1, shifts and means around 0, for every weight with one number
    per channel.
    """
    import numpy as np

    from stages.keras.normal_form import renew_constants

    rng = np.random.default_rng(1)
    for variable in model.weights:
        if len(variable.shape) == 1 and variable.dtype.is_floating:
            scale = any(word in variable.name for word in ("gamma", "variance"))
            shape = tuple(variable.shape)
            variable.assign(rng.uniform(0.5, 1.5, shape) if scale else rng.normal(0, 0.2, shape))
    renew_constants(model)


def frozen_share(model: Any, graph: Any) -> float:
    """Return the share of MACs in layers whose weights hold no channel that can go."""
    from stages.keras.flatten import flattened
    from stages.keras.macs import work_of

    model = flattened(model)
    free = {channel for group in graph.prunable for channel in group.channels.tolist()}
    touched = {slot.layer for slot in graph.slots if not free.isdisjoint(slot.channels.tolist())}
    works = work_of(model)
    return sum(work.macs for name, work in works.items() if name not in touched) / sum(w.macs for w in works.values())


def used(model: Any) -> tuple[float, float, bool]:
    """Save, load and train for a step: return the output difference after loading, the loss, whether any
    weights moved.
    """
    import numpy as np

    from stages.keras.losses import classification_loss
    from stages.keras.normal_form import application_layers, random_inputs, relative_difference
    from stages.keras.tensorflow import import_keras

    keras, inputs = import_keras(), random_inputs(model, 2)
    expected = model(inputs, training=False)
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        path = Path(folder) / "pruned.keras"
        model.save(path)
        del model
        with keras.utils.custom_object_scope(application_layers()):
            loaded = keras.models.load_model(path, compile=False)
    difference = relative_difference(expected, loaded(inputs, training=False))
    loaded.compile(keras.optimizers.SGD(1e-3), classification_loss(loaded), run_eagerly=True)
    before = [weight.numpy() for weight in loaded.trainable_weights]
    loss = float(loaded.train_on_batch(inputs, np.arange(2)))
    moved = [(new.numpy() != old).any() for new, old in zip(loaded.trainable_weights, before, strict=True)]
    return difference, loss, bool(np.isfinite(loss) and any(moved))


def measured(results: Results, wanted: Sequence[Case]) -> dict[Case, Result | str]:
    """Return a result, or what went wrong, for each case: known already, or measured now."""
    found = dict[Case, Result | str]()
    print(HEADER, flush=True)
    parts = [(asdict(case), (case.model, str(case.ratio), str(case.round_to))) for case in wanted]
    for case, answer in zip(wanted, results.each_apart(__file__, parts), strict=True):
        found[case] = answer if isinstance(answer, str) else Result(**answer)
        print(row(case, found[case]), flush=True)
    return found


HEADER = (
    f"{'model':<18} {'ratio':>5} {'to':>2} {'layers':>6} {'groups':>6} {'frozen':>6} {'params M':>15} {'MACs M':>17} "
    f"{'less':>5} {'error':>8} {'effect':>8} {'s':>6} {'MB':>6} used"
)


def row(case: Case, result: Result | str) -> str:
    head = f"{case.model:<18} {case.ratio:>5} {case.round_to:>2}"
    if isinstance(result, str):
        return f"{head} {result.splitlines()[-1]}"
    params = f"{result.params_before / 1e6:.2f} → {result.params_after / 1e6:.2f}"
    macs = f"{result.macs_before / 1e6:.1f} → {result.macs_after / 1e6:.1f}"
    return (
        f"{head} {result.layers:>6} {result.groups:>6} {result.frozen_groups:>6} {params:>15} {macs:>17} "
        f"{result.removed_macs:>5.1%} {result.error:>8.1e} {result.effect:>8.1e} {result.prune_s:>6.1f} "
        f"{result.peak_mb:>6.0f} {'yes' if result.trained else 'NO'}"
    )


def summary(found: dict[Case, Result | str], models: int) -> bool:
    """Print what was reached and what was not; return whether all was."""
    good = {case: result for case, result in found.items() if isinstance(result, Result)}
    exact = {case for case, result in good.items() if result.exact}
    half = {case: result for case, result in good.items() if case.ratio == 0.5}
    less = [case for case, result in half.items() if result.removed_macs >= LESS_MACS]
    reasons = Counter[str]()
    for result in half.values():
        reasons.update(result.frozen_reasons)
    print(
        f"\n{models} models; {len(exact)} of {len(found)} cases exact (≤ {EXACT}, masking > {EFFECT}), saved, trained"
    )
    print(f"largest error {max((result.error for result in good.values()), default=float('nan')):.1e}")
    print(f"{len(less)} of {models} lose at least {LESS_MACS:.0%} of their MACs at 50 %")
    print("groups frozen because of: " + ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()))
    for case, result in half.items():
        if result.removed_macs < LESS_MACS:
            why = ", ".join(f"{reason} {count}" for reason, count in result.frozen_reasons.items())
            print(f"  {case.model}: {result.removed_macs:.1%}; {result.frozen_macs:.1%} of its MACs are frozen: {why}")
    for case in found.keys() - exact:
        print(f"  not exact, or not saved and trained: {case.model} at {case.ratio}")
    return len(exact) == len(found) and len(less) >= min(MODELS_WITH_LESS, models)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    parser.add_argument("--only", default="*", help="models whose name matches")
    parser.add_argument("--one", nargs=3, metavar=("MODEL", "RATIO", "ROUND_TO"), help="measure here, print JSON")
    parser.add_argument("--list", action="store_true", help="print the models and their families as JSON")
    options = parser.parse_args()
    if options.one:
        model, ratio, round_to = options.one
        print(json.dumps(asdict(measure(Case(model, float(ratio), int(round_to))))))
        return 0
    if options.list:
        print(json.dumps(builders()))
        return 0
    families = in_fresh_process(__file__, "--list")
    wanted = [case for case in cases(families) if fnmatchcase(case.model, options.only)]
    if not wanted:
        parser.error(f"no model is called {options.only}")
    found = measured(Results(options.work, Path(__file__)), wanted)
    return 0 if summary(found, len({case.model for case in wanted})) else 1


if __name__ == "__main__":
    raise SystemExit(main())
