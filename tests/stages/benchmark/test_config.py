"""Check that the settings' defaults are the design's, and that impossible ones are refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from stages.benchmark.config import BenchmarkConfig


def test_defaults() -> None:
    assert BenchmarkConfig().model_dump() == {
        "targets": ("cpu",),
        "rounds": 10,
        "seconds": 0.1,
        "threads": 1,
        "unsupported": "refuse",
        "advise": False,
    }


def test_lists_are_taken_from_json() -> None:
    assert BenchmarkConfig.model_validate_json('{"targets": ["cpu"], "rounds": 20}').rounds == 20


@pytest.mark.parametrize(
    "setting",
    [
        '"rounds": 0',
        '"rounds": "10"',
        '"seconds": 0',
        '"threads": 0',
        '"targets": []',
        '"targets": ["no/path"]',
        '"round": 9',
    ],
)
def test_impossible_settings_are_refused(setting: str) -> None:
    with pytest.raises(ValidationError):
        BenchmarkConfig.model_validate_json(f"{{{setting}}}")
