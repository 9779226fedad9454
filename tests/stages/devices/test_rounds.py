"""Check that rounds take turns, run real processes, and are not measured twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.contracts.events import ActionEvents, Advanced, Event
from pipeline.errors import DeviceError
from stages.devices.rounds import Subject, forget_rounds, load_round, measure_rounds, order
from stages.devices.target import Sampling

BRIEF = Sampling(seconds=0.005, min_iterations=3)


def events_into(heard: list[Event]) -> ActionEvents:
    return ActionEvents("benchmark", heard.append)


def subjects(candidate: Path, baseline: Path) -> dict[str, Subject]:
    return {"candidate": Subject(candidate, "candidate"), "baseline": Subject(baseline, "baseline")}


def test_two_rounds_are_abba() -> None:
    assert [*order(0), *order(1)] == ["baseline", "candidate", "candidate", "baseline"]
    assert order(8) == order(0)
    assert order(9) == order(1)


def test_each_side_gets_its_own_model_and_progress_is_told(tflite_file: Path, onnx_file: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    rounds = measure_rounds(subjects(tflite_file, onnx_file), "cpu", 2, BRIEF, tmp_path, events_into(heard))
    assert [(done.index, done.first) for done in rounds] == [(0, "baseline"), (1, "candidate")]
    assert {done.side("candidate").runtime for done in rounds} == {"litert"}
    assert {done.side("baseline").runtime for done in rounds} == {"onnxruntime"}
    assert [(event.done, event.total, event.what) for event in heard if isinstance(event, Advanced)] == [
        (1, 2, "round 1/2"),
        (2, 2, "round 2/2"),
    ]
    assert all(float(event.detail.removeprefix("ratio ")) > 0 for event in heard)


def test_a_killed_measurement_goes_on_after_its_last_whole_round(tflite_file: Path, tmp_path: Path) -> None:
    both, quiet = subjects(tflite_file, tflite_file), events_into([])
    first = measure_rounds(both, "cpu", 2, BRIEF, tmp_path, quiet)
    whole, torn = tmp_path / "round-0000.json", tmp_path / "round-0001.json"
    torn.write_bytes(torn.read_bytes()[:100])
    assert load_round(tmp_path, 1) is None
    data = whole.read_bytes()
    for old, new in ((b'"index": 0', b'"index": 1'), (b'"samples_ns": [\n   ', b'"samples_ns": [\n   1')):
        damaged = data.replace(old, new)
        assert damaged != data
        whole.write_bytes(damaged)
        assert load_round(tmp_path, 0) is None
    whole.write_bytes(data)
    (tmp_path / "round-0002.json").write_bytes(data)  # of another number than it says
    assert load_round(tmp_path, 2) is None
    before = whole.stat().st_mtime_ns
    second = measure_rounds(both, "cpu", 2, BRIEF, tmp_path, quiet)
    assert second[0] == first[0]
    assert whole.stat().st_mtime_ns == before
    assert second[1].candidate.samples_ns != first[1].candidate.samples_ns
    assert load_round(tmp_path, 1) == second[1]


def test_forgotten_rounds_are_gone(tflite_file: Path, tmp_path: Path) -> None:
    (tmp_path / "something else").write_text("kept")
    measure_rounds(subjects(tflite_file, tflite_file), "cpu", 1, BRIEF, tmp_path, events_into([]))
    forget_rounds(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["something else"]
    assert load_round(tmp_path, 0) is None


def test_a_model_that_fails_stops_the_rounds_and_is_named(tflite_file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"not a model")
    with pytest.raises(DeviceError) as caught:
        measure_rounds(subjects(broken, tflite_file), "cpu", 3, BRIEF, tmp_path, events_into([]))
    assert caught.value.where == "candidate"
    assert load_round(tmp_path, 0) is None
