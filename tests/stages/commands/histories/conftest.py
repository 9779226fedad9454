"""Make entries of a history, all alike except for the arguments."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stages.commands.histories.record import Entry


def made_up_entry(p50: float = 1.0, **changes) -> Entry:
    usual = {
        "time": "2026-11-26T00:51:24+00:00",
        "name": "tflite/int8",
        "digest": "sha256:" + "0" * 64,
        "target": "cpu",
        "device": {"cpu_model": "a processor"},
        "runtime": "litert 2.3.0",
        "rounds": 10,
        "metrics": {"latency_p50_ms": p50, "latency_p50_low_ms": p50 - 0.1, "latency_p50_high_ms": p50 + 0.1},
    }
    return Entry.model_validate(usual | changes)


@pytest.fixture
def entry() -> Callable[..., Entry]:
    return made_up_entry


@pytest.fixture
def days() -> Callable[..., list[Entry]]:
    """Make an entry per day of these medians, in ms."""

    def make(*values: float, **changes) -> list[Entry]:
        dated = enumerate(values, 1)
        return [made_up_entry(value, time=f"2026-11-{day:02}T00:00:00+00:00", **changes) for day, value in dated]

    return make
