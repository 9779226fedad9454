"""Check the report of rounds whose samples are known."""

from __future__ import annotations

import json

import pytest

from stages.benchmark.summary import facts_of, metrics_of, ratio_of, samples_document


@pytest.fixture
def rounds(make_measurement, make_round):
    """Make three rounds: the candidate takes 1, 2 and 4 ms, the baseline always twice as long."""
    return tuple(
        make_round(
            index,
            make_measurement((ms * 10**6,) * 10, load_ms=load, peak_memory_bytes=peak, first_inference_ms=load / 2),
            make_measurement((2 * ms * 10**6,) * (12 + index)),
        )
        for index, (ms, load, peak) in enumerate([(1, 50.0, 100), (2, 3.0, 300), (4, 2.0, 200)])
    )


def test_metrics_are_those_of_the_samples(rounds) -> None:
    assert metrics_of(rounds, ratio_of(rounds), 1234) == {
        "latency_p50_ms": 2.0,
        "latency_p90_ms": 4.0,
        "baseline_p50_ms": 4.0,
        "latency_ratio": 0.5,
        "noise_floor": pytest.approx(1.0),  # each process takes twice or half as long as its neighbor of the same side
        "load_ms": 3.0,
        "first_inference_ms": 1.5,
        "peak_memory_bytes": 300.0,
        "size_bytes": 1234.0,
    }


@pytest.mark.parametrize(("samples", "told"), [(499, False), (500, True)])
def test_p99_takes_a_thousand_samples(make_measurement, make_round, samples: int, told: bool) -> None:
    one = make_measurement((10**6,) * (samples - 10) + (5 * 10**6,) * 10)
    rounds = (make_round(0, one, one), make_round(1, one, one))
    metrics = metrics_of(rounds, ratio_of(rounds), 1)
    assert ("latency_p99_ms" in metrics) is told
    if told:
        assert metrics["latency_p99_ms"] == 5.0
        assert metrics["latency_p90_ms"] == 1.0


def test_facts_say_the_same_as_the_metrics(rounds) -> None:
    facts = facts_of(rounds, ratio_of(rounds), "cpu")
    assert facts.model_dump() == {
        "kind": "latency-samples",
        "target": "cpu",
        "runtime": "litert 2.3.0",
        "rounds": 3,
        "samples_per_side": 30,
        "candidate_p50_ms": 2.0,
        "candidate_p90_ms": 4.0,
        "baseline_p50_ms": 4.0,
        "ratio": 0.5,
        "ratio_low": 0.5,
        "ratio_high": 0.5,
        "losses": None,
    }


def test_the_document_keeps_all_samples_and_is_deterministic(rounds) -> None:
    first = samples_document(rounds, ratio_of(rounds), "cpu", {"b": "1", "a": "2"}, {})
    assert first == samples_document(rounds, ratio_of(rounds), "cpu", {"a": "2", "b": "1"}, {})
    document = json.loads(first)
    assert document["ratio"] == {"point": 0.5, "low": 0.5, "high": 0.5}
    assert [one["candidate"]["samples_ns"] for one in document["rounds"]] == [
        list(done.candidate.samples_ns) for done in rounds
    ]
    assert [one["first"] for one in document["rounds"]] == ["baseline", "candidate", "baseline"]
