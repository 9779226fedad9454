"""Make rounds from measurements."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stages.devices.measurement import Measurement
from stages.devices.rounds import Round


def made_up_round(index: int, candidate: Measurement, baseline: Measurement) -> Round:
    return Round(index=index, first="candidate" if index % 2 else "baseline", baseline=baseline, candidate=candidate)


@pytest.fixture
def make_round() -> Callable[..., Round]:
    return made_up_round
