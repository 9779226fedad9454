"""Format the numbers of a comparison, the same way in every form of the answer."""

from __future__ import annotations

from pipeline.reports.table import count, size
from stages.commands.comparing.compared import COUNT, SHARE, compared
from stages.commands.comparing.result import ComparisonReport, Evidence, MetricResult, PairResult

MILLION = 1e6
VERDICTS = {"regression": "REGRESSION", "inconclusive": "inconclusive", "ok": "ok", None: ""}


def changed(found: MetricResult) -> str:
    """Format `1.083 [1.071, 1.094]`, `+7.84 %`, or for accuracy the points gained or lost."""
    if found.unit == SHARE and found.change:
        return f"{100 * (found.candidate - found.baseline):+.2f} points"
    if found.evidence is None:
        return f"{found.change:+.2%}".replace("%", " %") if found.change else "equal"
    low, high = found.interval or (found.change, found.change)
    return f"{1 + found.change:.3f} [{1 + low:.3f}, {1 + high:.3f}]"


def both(found: MetricResult) -> str:
    """Format `0.031 → 0.034 ms`, the baseline first, the unit once if it is the same."""
    baseline, candidate = number(found, found.baseline), number(found, found.candidate)
    if found.baseline == found.candidate:
        return f"{baseline} = {candidate}"
    value, _, unit = baseline.rpartition(" ")
    return f"{value if candidate.endswith(f' {unit}') else baseline} → {candidate}"


def number(found: MetricResult, value: float) -> str:
    """Format one side's number with its unit."""
    if found.unit == "ms":
        return f"{value:.3f} ms"
    if found.unit == "bytes":
        return size(value)
    if found.unit == SHARE:
        return f"{value:.2%}".replace("%", " %")
    metric = compared().get(found.metric)
    if metric is None or metric.unit != COUNT:
        return f"{value:.4g} {found.unit}".rstrip()
    return f"{value / MILLION:,.3f} M" if value >= MILLION else count(value)  # counts are exact: a tenth is too coarse


def bound(found: MetricResult) -> str:
    """Format the bound: `≤ 1.05`."""
    if found.tolerance is None:
        return ""
    if found.unit == SHARE:
        metric = compared().get(found.metric)
        fewer = metric is not None and metric.lower_is_better
        return f"≤ +{100 * found.tolerance:g} points" if fewer else f"≥ -{100 * found.tolerance:g} points"
    return f"≤ +{100 * found.tolerance:g} %" if found.evidence is None else f"≤ {1 + found.tolerance:g}"


def basis(found: MetricResult) -> str:
    """Describe the evidence."""
    if found.evidence is None:
        return "estimate" if found.estimated else "exact"
    return f"{found.evidence.rounds} rounds"


def sentence(pair: PairResult, found: MetricResult) -> str:
    """Describe one finding so that it can stand alone."""
    text = f"{pair.name} {found.name}: {changed(found)} ({both(found)}), allowed {bound(found)}; {basis(found)}"
    return f"{text}; {found.reason}" if found.reason else text


def remarks(report: ComparisonReport) -> list[str]:
    """List other facts to know: noise, outlying rounds, added rounds, doubts, unpaired models."""
    lines = []
    for pair in report.pairs:
        for result in pair.metrics:
            if result.evidence is not None and result.verdict is not None:
                lines += [f"{pair.name} {result.name}: {text}" for text in _of_rounds(result.evidence)]
            if result.reason:
                lines.append(f"{pair.name} {result.name}: {result.reason}")
        lines += [f"{pair.name}: {note}" for note in pair.notes]
    return [*lines, *(f"not compared: {text}" for text in report.unpaired)]


def _of_rounds(evidence: Evidence) -> list[str]:
    lines = []
    if evidence.noise_floor is not None:
        lines.append(f"noise floor {100 * evidence.noise_floor:.1f} % (one model against itself, 95 of 100 times)")
    if evidence.extended:
        lines.append(f"{evidence.rounds // 2} rounds could not tell, so there were as many again")
    if evidence.apart:
        shown = ", ".join(f"{index} (×{evidence.ratios[index - 1]:.3f})" for index in evidence.apart)
        lines.append(f"rounds that stand apart, and count: {shown}")
    return lines


def headline(report: ComparisonReport) -> str:
    """Put the verdict into the first line."""
    held = sum(len(pair.held()) for pair in report.pairs)
    if report.verdict == "ok":
        return f"ok  {report.base} → {report.candidate}: {held} of {held} within tolerance"
    affected = len(report.findings(report.verdict))
    outcome = "worse" if report.verdict == "regression" else "can't be told"
    return f"{VERDICTS[report.verdict]}  {report.base} → {report.candidate}: {affected} of {held} {outcome}"
