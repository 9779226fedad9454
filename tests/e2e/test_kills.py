"""Run the program that kills trainings, here with three kills of one."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "training_kills.py"


@pytest.mark.slow
def test_a_training_that_is_killed_three_times_ends_in_the_digest_of_one_that_was_not():
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--runs", "1", "--kills", "3", "--images", "480"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 1 ended in the same digest: ok" in done.stdout
