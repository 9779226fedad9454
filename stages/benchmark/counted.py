"""Report a benchmark on a target that counts: the candidate's numbers, the baseline's, and their ratio.

A count needs no rounds. Its ratio still has an interval, as wide as the target's counts of one model differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from pipeline.records.artifacts import Artifact
from pipeline.records.facts import CountFacts
from pipeline.records.metrics import SIZE, Metric
from stages.devices.counts import Counts
from stages.devices.metrics import ratio_of

SCHEMA_VERSION = 1


def metrics_of(candidate: Counts, baseline: Counts, size_bytes: int, declared: tuple[Metric, ...]) -> dict[str, float]:
    """Return the candidate's numbers; if both have the main one, also the baseline's and their ratio.

    The ratio has the name under which the target declares it. Numbers that leave out different operators have none.
    """
    metrics = {**candidate.metrics, SIZE.name: float(size_bytes)}
    main = candidate.main
    if main is not None and main == baseline.main and candidate.left_out == baseline.left_out:
        metrics[f"baseline_{main}"] = baseline.metrics[main]
        if ratio := ratio_of(main, declared):
            metrics[ratio.name] = candidate.metrics[main] / baseline.metrics[main]
    return metrics


def intervals_of(
    candidate: Counts, baseline: Counts, metrics: Mapping[str, float], declared: tuple[Metric, ...]
) -> dict[str, tuple[float, float]]:
    """Return the intervals of the main number and of the ratio; none if counts repeat exactly."""
    main = candidate.main
    if main is None or not candidate.spread:
        return {}
    wide = {main: candidate.spread}
    if ratio := ratio_of(main, declared):
        # Relative errors of a quotient add up.
        wide[ratio.name] = candidate.spread + baseline.spread
    return {
        name: (metrics[name] * (1 - share), metrics[name] * (1 + share))
        for name, share in wide.items()
        if name in metrics
    }


def facts_of(candidate: Counts, baseline: Counts) -> CountFacts:
    """Summarize the comparison."""
    return CountFacts(
        target=candidate.target,
        runtime=candidate.runtime,
        estimated=candidate.estimated,
        main=candidate.main,
        candidate=dict(candidate.metrics),
        baseline=dict(baseline.metrics),
        spread=candidate.spread,
    )


def counts_document(
    candidate: Counts, baseline: Counts, device: Mapping[str, str], models: Mapping[str, Artifact]
) -> bytes:
    """Write everything that was counted; equal counts give equal bytes."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "device": dict(device),
        "models": {name: artifact.digest for name, artifact in models.items()},
        "candidate": candidate.model_dump(mode="json"),
        "baseline": baseline.model_dump(mode="json"),
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
