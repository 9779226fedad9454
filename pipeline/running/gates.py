"""Derive the metrics of a whole run, and compare gates with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pipeline.errors import RecipeError
from pipeline.recipe.errors import nearest
from pipeline.recipe.recipe import Gate, Recipe
from pipeline.records.declared import comparison, declared
from pipeline.records.facts import KerasFacts
from pipeline.records.manifest import SOURCE, GateResult, Interval, Verdict
from pipeline.records.metrics import MACS, MACS_UNKNOWN, metric_and_output, name_and_metric


def check_outputs(recipe: Recipe, outputs: Sequence[str]) -> None:
    """Raise RecipeError if a gate names an output that the model lacks; called as soon as the outputs are known.

    A single output is not named: its metrics are `accuracy`, not `accuracy[age]`.
    """
    for index, gate in enumerate(recipe.gates):
        _, output = metric_and_output(name_and_metric(gate.metric)[1])
        if output is not None and (output not in outputs or len(outputs) == 1):
            what = f"gates[{index}].metric: the model has no output {output!r} to choose"
            alone = f"it has one output: say {gate.metric.removesuffix(f'[{output}]')}"
            hint = nearest(output, list(outputs)) if len(outputs) > 1 else alone
            raise RecipeError(what, where=recipe.source.where(("gates", index, "metric")), hint=hint)


def check_macs(recipe: Recipe, facts: KerasFacts) -> None:
    """Raise RecipeError if a gate uses MACs and the model has layers whose MACs are not known."""
    for index, gate in enumerate(recipe.gates):
        metric = name_and_metric(gate.metric)[1]
        if facts.macs_unknown and metric in (MACS.name, comparison(MACS.name)):
            what = (
                f"gates[{index}].metric: the MACs of {facts.macs_unknown[0]} are unknown: {gate.metric} is not a number"
            )
            hint = "hold params_ratio, size_bytes or a target's latency_ratio instead"
            raise RecipeError(what, where=recipe.source.where(("gates", index, "metric")), hint=hint)


def with_comparisons(metrics: Mapping[str, float]) -> dict[str, float]:
    """Add comparisons with the source to the metrics: accuracy_drop, macs_ratio, mse_ratio and so on.

    Two lower bounds of MACs have no ratio.
    """
    flat = dict(metrics)
    for full, value in metrics.items():
        name, metric = name_and_metric(full)
        before = metrics.get(f"{SOURCE}.{metric}")
        if name == SOURCE or before is None:
            continue
        compared = comparison(metric)
        declaration = declared(metric) if compared else None
        if compared is None or declaration is None:
            continue
        # A lower bound divided by another can be above or below the true ratio.
        if metric == MACS.name and any(f"{owner}.{MACS_UNKNOWN.name}" in metrics for owner in (SOURCE, name)):
            continue
        if declaration.against_source == "drop":
            flat[f"{name}.{compared}"] = declaration.worsening(before, value)
        # A source value of 0 (the MSE of a perfect one) has no ratio.
        elif before:
            flat[f"{name}.{compared}"] = value / before
    return dict(sorted(flat.items()))


def hold(
    gates: Iterable[Gate],
    metrics: Mapping[str, float],
    intervals: Mapping[str, Interval],
    *,
    failed: bool = False,
) -> list[GateResult]:
    """Evaluate each bound of each gate; one on a metric that the run does not have has no value, and fails.

    In a run in which something `failed`, it is inconclusive: the metric may only be lost.
    """
    results = []
    for gate in gates:
        value, interval = metrics.get(gate.metric), intervals.get(gate.metric)
        missing: Verdict = "inconclusive" if failed else "fail"
        if gate.max is not None:
            results.append(_hold_one(gate.metric, "max", gate.max, value, interval, missing))
        if gate.min is not None:
            results.append(_hold_one(gate.metric, "min", gate.min, value, interval, missing))
    return results


def _hold_one(
    metric: str, op: str, limit: float, value: float | None, interval: Interval | None, missing: Verdict
) -> GateResult:
    verdict = missing
    if value is not None:
        low, high = interval or (value, value)
        # A value that equals its limit passes, as `max` and as `min`.
        inside, outside = (high <= limit, low > limit) if op == "max" else (low >= limit, high < limit)
        verdict = "pass" if inside else "fail" if outside else "inconclusive"
    document = {"metric": metric, "op": op, "limit": limit, "value": value, "interval": interval, "verdict": verdict}
    return GateResult.model_validate(document)


def verdict_of(results: Iterable[GateResult]) -> Verdict:
    """Return the verdict: one failed gate fails the run; else one undecided gate makes it inconclusive."""
    verdicts = {result.verdict for result in results}
    return "fail" if "fail" in verdicts else "inconclusive" if "inconclusive" in verdicts else "pass"
