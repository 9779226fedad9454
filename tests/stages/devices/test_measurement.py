"""Check that a runner's report is validated as strictly as users' files."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from stages.devices.measurement import Measurement, doubts


def test_a_report_survives_being_written_and_read(make_measurement) -> None:
    report = make_measurement((5, 6, 7), load_ms=0.125)
    assert Measurement.model_validate_json(report.model_dump_json()) == report
    assert report.output_digests() == ("0" * 64,)


@pytest.mark.parametrize(
    "change",
    [
        {"samples_ns": ()},
        {"samples_ns": (1.5,)},
        {"outputs": ()},
        {"load_ms": -1.0},
        {"load_ms": float("nan")},
        {"peak_memory_bytes": 0},
        {"schema_version": 2},
        {"runtime": "Trace\nback"},
        {"surprise": 1},
    ],
)
def test_what_no_runner_would_say_is_refused(make_measurement, change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        make_measurement(**({"samples_ns": (1,)} | change))


def test_doubts_are_told_once(make_measurement) -> None:
    calm = make_measurement((1,), steady=True)
    restless = make_measurement((1,), steady=False, notes=("it was throttled",))
    assert doubts([calm, calm]) == ()
    assert doubts([calm, restless]) == ("it was throttled",)
    unsteady = "2 of 3 processes were not steady after warm-up: the machine is busy or throttled"
    assert doubts([restless, restless, calm]) == (unsteady, "it was throttled")
