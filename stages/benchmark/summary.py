"""Summarize the rounds of a benchmark: metrics, typed facts, and the document that keeps every raw sample.

Percentiles weight every round equally. Load and first inference are medians over rounds, since a cold disk cache makes
the first process an outlier; peak memory is the maximum over all processes, since a device must have that much. All of
these are the candidate's; the baseline contributes its p50 and the ratio.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pipeline.records.artifacts import Artifact
from pipeline.records.facts import LatencyFacts
from stages.devices.rounds import Round, Side
from stages.devices.statistics import (
    SAMPLES_FOR_P99,
    Ratio,
    latency_quantile_ns,
    latency_ratio,
    noise_floor,
    round_medians_ns,
)

SCHEMA_VERSION = 1
NS_PER_MS = 1e6


def ratio_of(rounds: Sequence[Round]) -> Ratio:
    """Compare candidate and baseline, paired round by round."""
    return latency_ratio(round_medians_ns(samples(rounds, "candidate")), round_medians_ns(samples(rounds, "baseline")))


def metrics_of(rounds: Sequence[Round], ratio: Ratio, size_bytes: int) -> dict[str, float]:
    """Return the flat metrics. `latency_p99_ms` requires at least 1,000 samples.

    `noise_floor` is how far from 1 the ratio of one model against itself comes in 95 of 100 such measurements.
    """
    import numpy as np

    candidate = [done.candidate for done in rounds]
    metrics = {
        "latency_p50_ms": quantile_ms(rounds, "candidate", 0.5),
        "latency_p90_ms": quantile_ms(rounds, "candidate", 0.9),
        "baseline_p50_ms": quantile_ms(rounds, "baseline", 0.5),
        "latency_ratio": ratio.point,
        "load_ms": float(np.median([process.load_ms for process in candidate])),
        "first_inference_ms": float(np.median([process.first_inference_ms for process in candidate])),
        "peak_memory_bytes": float(max(process.peak_memory_bytes for process in candidate)),
        "size_bytes": float(size_bytes),
    }
    floor = noise_floor(round_medians_ns(samples(rounds, "candidate")), round_medians_ns(samples(rounds, "baseline")))
    if floor is not None:
        metrics["noise_floor"] = floor
    if sum(len(process.samples_ns) for process in candidate) >= SAMPLES_FOR_P99:
        metrics["latency_p99_ms"] = quantile_ms(rounds, "candidate", 0.99)
    return metrics


def facts_of(rounds: Sequence[Round], ratio: Ratio, target: str) -> LatencyFacts:
    """Summarize the comparison; `samples_per_side` is the number on the side with fewer samples."""
    first = rounds[0].candidate
    return LatencyFacts(
        target=target,
        runtime=f"{first.runtime} {first.runtime_version}",
        rounds=len(rounds),
        samples_per_side=min(sum(map(len, samples(rounds, side))) for side in ("baseline", "candidate")),
        candidate_p50_ms=quantile_ms(rounds, "candidate", 0.5),
        candidate_p90_ms=quantile_ms(rounds, "candidate", 0.9),
        baseline_p50_ms=quantile_ms(rounds, "baseline", 0.5),
        ratio=ratio.point,
        ratio_low=ratio.low,
        ratio_high=ratio.high,
    )


def samples_document(
    rounds: Sequence[Round], ratio: Ratio, target: str, device: Mapping[str, str], models: Mapping[str, Artifact]
) -> bytes:
    """Write all raw samples and the runner's notes on each process; equal measurements give equal bytes."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "target": target,
        "device": dict(device),
        "models": {name: artifact.digest for name, artifact in models.items()},
        "ratio": {"point": ratio.point, "low": ratio.low, "high": ratio.high},
        "rounds": [done.model_dump(mode="json", exclude_none=True) for done in rounds],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def samples(rounds: Sequence[Round], side: Side) -> tuple[tuple[int, ...], ...]:
    """Return the raw samples of one side, a tuple per round, in nanoseconds."""
    return tuple(done.side(side).samples_ns for done in rounds)


def quantile_ms(rounds: Sequence[Round], side: Side, share: float) -> float:
    """Return a percentile of one side's inferences, in milliseconds."""
    return latency_quantile_ns(samples(rounds, side), share) / NS_PER_MS
