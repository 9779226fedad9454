"""Check the laws that a ratio of latencies obeys for any samples, and the numbers of small cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import DeviceError
from stages.devices.statistics import (
    RESAMPLES,
    Ratio,
    latency_quantile_ns,
    latency_ratio,
    noise_floor,
    round_medians_ns,
    rounds_apart,
    signed_rank_p,
    significant,
    verdict,
)

times = st.floats(1e2, 1e9)
pairs = st.lists(st.tuples(times, times), min_size=1, max_size=16)
samples = st.lists(st.lists(st.integers(1, 10**6), min_size=1, max_size=9), min_size=1, max_size=6)
laws = settings(max_examples=40, deadline=None)


def ratio_of(pairs: list[tuple[float, float]], scale: float = 1.0) -> Ratio:
    return latency_ratio([scale * c for c, _ in pairs], [scale * b for _, b in pairs])


def close(first: Ratio, second: Ratio) -> bool:
    ends = ((first.point, second.point), (first.low, second.low), (first.high, second.high))
    return all(math.isclose(a, b, rel_tol=1e-9) for a, b in ends)


@laws
@given(pairs, st.floats(1e-3, 1e3))
def test_a_machine_that_is_slower_for_both_changes_nothing(pairs: list[tuple[float, float]], scale: float) -> None:
    assert close(ratio_of(pairs), ratio_of(pairs, scale))


@laws
@given(pairs)
def test_swapping_sides_inverts_the_ratio_and_its_interval(pairs: list[tuple[float, float]]) -> None:
    one, other = ratio_of(pairs), ratio_of([(b, c) for c, b in pairs])
    assert close(one, Ratio(1 / other.point, 1 / other.high, 1 / other.low, other.rounds))


@laws
@given(st.lists(times, min_size=1, max_size=16))
def test_identical_sides_give_exactly_one(side: list[float]) -> None:
    assert latency_ratio(side, side) == Ratio(1.0, 1.0, 1.0, len(side))


@laws
@given(pairs)
def test_the_interval_holds_the_point_and_lies_within_the_rounds(pairs: list[tuple[float, float]]) -> None:
    ratio, ratios = ratio_of(pairs), [c / b for c, b in pairs]
    assert min(ratios) * (1 - 1e-9) <= ratio.low <= ratio.point * (1 + 1e-9)
    assert ratio.point * (1 - 1e-9) <= ratio.high <= max(ratios) * (1 + 1e-9)


@laws
@given(pairs, st.randoms())
def test_a_drift_between_rounds_cancels(pairs: list[tuple[float, float]], random) -> None:
    drifts = [random.uniform(0.5, 2.0) for _ in pairs]
    drifted = [(c * drift, b * drift) for (c, b), drift in zip(pairs, drifts, strict=True)]
    assert close(ratio_of(pairs), ratio_of(drifted))


def test_one_wild_round_in_ten_moves_the_point_little() -> None:
    steady = [(50.0, 100.0)] * 9
    assert ratio_of([*steady, (5000.0, 100.0)]).point == pytest.approx(0.5)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Two hundred synthetic comparisons with a known ratio; exact coverage at 10 rounds is a little under 95 %."""
    generator = np.random.default_rng(0)
    truth, covered = 1.1, 0
    for _ in range(200):
        noise = generator.normal(0, 0.01, (2, 10))
        ratio = latency_ratio(tuple(truth * 1e6 * np.exp(noise[0])), tuple(1e6 * np.exp(noise[1])))
        covered += ratio.low <= truth <= ratio.high
    assert 0.85 * 200 <= covered <= 0.995 * 200


def test_the_interval_is_seeded() -> None:
    generator = np.random.default_rng(1)
    candidate, baseline = (tuple(generator.uniform(90, 110, 10)) for _ in range(2))
    first = latency_ratio(candidate, baseline)
    assert first == latency_ratio(candidate, baseline)
    assert first.low < first.point < first.high


@pytest.mark.parametrize(
    ("candidate", "baseline"), [((), ()), ((1.0,), (1.0, 2.0)), ((0.0,), (1.0,)), ((1.0,), (0.0,))]
)
def test_rounds_that_make_no_ratio_are_refused(candidate: tuple[float, ...], baseline: tuple[float, ...]) -> None:
    with pytest.raises(DeviceError):
        latency_ratio(candidate, baseline)


def test_medians_are_taken_round_by_round() -> None:
    assert round_medians_ns([(1, 2, 900), (4, 8), (7,)]) == (2.0, 6.0, 7.0)


def test_each_round_weighs_the_same_in_a_percentile() -> None:
    many_fast, few_slow = (10,) * 900, (20,) * 9
    assert latency_quantile_ns([many_fast, few_slow], 0.49) == 10
    assert latency_quantile_ns([many_fast, few_slow], 0.51) == 20
    assert latency_quantile_ns([tuple(range(1, 101))], 0.895) == 90


@laws
@given(samples, st.floats(0, 1), st.floats(0, 1))
def test_percentiles_are_samples_and_never_fall(rounds: list[list[int]], first: float, second: float) -> None:
    low, high = (latency_quantile_ns(rounds, share) for share in sorted((first, second)))
    assert low <= high
    assert {low, high} <= {float(sample) for part in rounds for sample in part}


@pytest.mark.parametrize(
    ("low", "point", "high", "expected"),
    [
        (1.06, 1.08, 1.10, "regression"),
        (1.01, 1.06, 1.20, "regression"),
        (0.99, 1.06, 1.20, "inconclusive"),
        (1.01, 1.04, 1.06, "inconclusive"),
        (1.01, 1.02, 1.03, "ok"),
        (0.40, 0.50, 0.60, "ok"),
        (0.90, 1.00, 1.05, "inconclusive"),
        (1.00, 1.06, 1.07, "inconclusive"),
    ],
)
def test_verdicts(low: float, point: float, high: float, expected: str) -> None:
    assert verdict(Ratio(point, low, high, 10), 0.05) == expected


def noisy(generator, spread: float, rounds: int = 10) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return times of a model compared with itself: candidate and baseline."""
    times = 1e6 * np.exp(generator.normal(0, spread, (2, rounds)))
    return tuple(times[0]), tuple(times[1])


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    from scipy.stats import bootstrap

    candidate, baseline = noisy(np.random.default_rng(3), 0.02)
    ours = latency_ratio(candidate, baseline)
    logs = np.log(np.divide(candidate, baseline))
    theirs = bootstrap((logs,), np.median, method="percentile", n_resamples=RESAMPLES, rng=0).confidence_interval
    assert math.log(ours.low) == pytest.approx(theirs.low, abs=0.001)
    assert math.log(ours.high) == pytest.approx(theirs.high, abs=0.001)


def test_the_noise_floor_is_what_a_model_against_itself_stays_within() -> None:
    """Two hundred comparisons of one model with itself: about one in twenty exceeds its own floor."""
    generator, beyond, floors = np.random.default_rng(0), 0, []
    for _ in range(200):
        candidate, baseline = noisy(generator, 0.01)
        floor = noise_floor(candidate, baseline)
        floors.append(floor)
        beyond += abs(latency_ratio(candidate, baseline).point - 1) > floor
    assert 2 <= beyond <= 24  # 10 are expected, a few more since a floor is itself an estimate
    assert np.median(floors) == pytest.approx(0.0105, abs=0.002)  # 1.96 × 1.25 × sqrt(2) × 0.01 / sqrt(10)


def test_the_noise_floor_sees_neighbors_and_neither_the_difference_of_the_sides_nor_a_drift_in_steps() -> None:
    quiet, twice = [100.0] * 10, [200.0] * 10
    assert noise_floor(twice, quiet) == 0
    assert noise_floor([100.0], [100.0]) is None
    # A B B A: the sides change places, so that rounds 0 and 1 are adjacent in the candidate's times.
    candidate, baseline = [100.0, 100.0, 300.0, 300.0], [100.0, 200.0, 200.0, 400.0]
    assert noise_floor(candidate, baseline) == 0


def test_rounds_that_stand_apart_are_named() -> None:
    baseline = [100.0] * 10
    candidate = [101.0, 102, 103, 150, 101, 102, 103, 102, 60, 101]
    assert rounds_apart(candidate, baseline) == pytest.approx({3: 1.5, 8: 0.6})
    assert rounds_apart(baseline, baseline) == {}


def test_signed_ranks_by_hand() -> None:
    slower = [100.0 + step for step in range(1, 11)]
    assert signed_rank_p(slower, [100.0] * 10) == pytest.approx(2 / 2**10)
    assert signed_rank_p([100.0] * 10, slower) == pytest.approx(2 / 2**10)
    assert signed_rank_p([101.0, 98.0], [100.0, 100.0]) == pytest.approx(1.0)
    assert signed_rank_p([100.0] * 3, [100.0] * 3) == 1


def test_holm_by_hand() -> None:
    assert significant([0.01, 0.04, 0.03]) == (True, False, False)  # 0.05/3, then 0.03 > 0.05/2, and no further
    assert significant([0.02, 0.01]) == (True, True)  # 0.01 ≤ 0.05/2, then 0.02 ≤ 0.05
    assert significant([0.03, 0.03]) == (False, False)
    assert significant([]) == ()


def test_holm_keeps_false_alarms_of_many_models_rare() -> None:
    generator, alarms = np.random.default_rng(5), 0
    for _ in range(300):
        alarms += any(significant(list(generator.uniform(0, 1, 12))))
    assert alarms <= 0.085 * 300  # 5 % are expected, and three deviations more


@pytest.mark.parametrize(
    ("ratio", "tolerance", "floor", "differs", "expected"),
    [
        ((1.00, 0.99, 1.01), 0.02, 0.01, True, "ok"),
        ((1.00, 0.99, 1.01), 0.02, 0.03, True, "inconclusive"),  # the tolerance lies below the floor
        ((1.03, 1.02, 1.04), 0.02, 0.03, True, "inconclusive"),
        ((1.06, 1.04, 1.08), 0.02, 0.03, True, "regression"),  # what lies wholly above the floor is still one
        ((1.06, 1.04, 1.08), 0.02, 0.01, False, "inconclusive"),  # by chance, among this many models
        ((1.06, 1.04, 1.08), 0.02, 0.03, False, "inconclusive"),
    ],
)
def test_verdicts_with_a_noise_floor_and_among_others(ratio, tolerance, floor, differs, expected) -> None:
    assert verdict(Ratio(*ratio, 10), tolerance, floor, differs=differs) == expected
