from __future__ import annotations

import pytest

from pipeline.records.manifest import RunManifest
from stages.search.trial import dropped, epochs_of, expected_s, figures_of, fitting, pairs_of, smoothed_drops


def manifest(metrics):
    return RunManifest(
        run_id="abcd1234", name="n", recipe_digest="sha256:" + "0" * 64, stages=(), metrics=metrics, gates=(),
        verdict="pass",
    )  # fmt: skip


def test_files_are_read_off_a_run_and_the_sources_own_are_not(goal):
    metrics = {
        "tflite/int8.accuracy": 0.88, "tflite/int8.size_bytes": 4000.0, "tflite/int8@cpu.latency_p50_ms": 0.5,
        "onnx/int8@cpu.latency_p50_ms": 0.7, "source tflite/int8@cpu.latency_p50_ms": 1.0,
        "tflite/int8@pi.latency_p50_ms": 9.0,
    }  # fmt: skip
    first, second = figures_of(manifest(metrics), goal, 0.9)
    assert (first.axis, first.cost, first.accuracy) == ("tflite/int8", 0.5, 0.88)
    assert first.drop == pytest.approx(0.02)
    assert first.bounded == {"size_bytes": 4000.0}
    assert (second.axis, second.drop) == ("onnx/int8", None)


def test_a_file_keeps_the_goal_if_it_keeps_all_of_it(goal, file):
    assert file(1.0, 0.01, size_bytes=5000.0).keeps(goal)
    assert not file(1.0, 0.011).keeps(goal)
    assert not file(1.0, 0.0, size_bytes=5001.0).keeps(goal)
    assert not file(1.0, 0.0).model_copy(update={"drop": None}).keeps(goal)


def test_a_drop_needs_both_accuracies():
    assert dropped(0.8, 0.9) == pytest.approx(0.1)
    assert dropped(None, 0.9) is dropped(0.8, None) is None


def test_pairs_are_of_those_that_got_to_both_levels(trial):
    both, one = trial(0, 0.5, fitted=0.7, trained=0.8), trial(1, 0.4, fitted=0.6)
    assert [(low.accuracy, high.accuracy) for low, high in pairs_of([both, one], "fitted", "trained")] == [(0.7, 0.8)]


def test_luck_is_taken_half_out(trial):
    drops = {0.2: 0.10, 0.4: 0.02, 0.6: 0.04, 0.8: 0.0}  # at 0.4 it was lucky: with more left, 0.6 lost more
    trials = [trial(n, share, trained=0.9 - drop) for n, (share, drop) in enumerate(drops.items())]
    expected = smoothed_drops(trials, "trained")
    assert expected == pytest.approx({0: 0.10, 1: (0.02 + 0.03) / 2, 2: (0.04 + 0.03) / 2, 3: 0.0})
    assert smoothed_drops([], "trained") == {}


def test_a_training_is_expected_to_take_as_long_as_others_by_its_epochs(trial):
    def took(number, epochs, wall_s):
        made = trial(number, 0.5, fitted=0.7, trained=0.8)
        reached = (made.reached[0], made.reached[1].model_copy(update={"wall_s": wall_s}))
        return made.model_copy(update={"settings": {"stages.finetune.epochs": epochs}, "reached": reached})

    others = [took(0, 5, 10.0), took(1, 10, 30.0), took(2, 20, 100.0)]
    assert expected_s(took(3, 4, 0.0), others, "trained") == pytest.approx(4 * 3.0)
    assert expected_s(took(3, 4, 0.0), [], "trained") is None
    assert epochs_of(trial(0, 0.5)) == 1.0
    asked = [took(3, 4, 0.0), took(4, 8, 0.0), took(5, 1, 0.0)]  # 12, 24 and 3 s
    assert [fitting(asked, others, "trained", left_s) for left_s in (-1.0, 11.9, 12.0, 35.9, 36.0, 39.0)] == [
        *(0, 0, 1, 1, 2, 3)
    ]
    assert fitting(asked, [], "trained", 0.0) == 3  # nothing is known of how long it takes
