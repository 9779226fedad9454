"""Provide a recipe of a small chain with a search section."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.recipe.recipe import Recipe
from stages.devices.metrics import LATENCY
from stages.search.answer import Answer
from stages.search.goal import Goal
from stages.search.measuring import Against
from stages.search.trial import FileFigures, Reached, Trial
from stages.search.verdict import FinalFigures, Point

TEXT = """name: small
model: small.keras
data: {source: npz, path: d.npz, test: test}
control: true
stages:
  - load
  - prune: {criterion: obs, scope: loss, macs: 0.5, round_to: 8}
  - reconstruct
  - finetune: {epochs: 2, distill: {weight: 0.8}}
  - strip
  - quantize: {schemes: [float32, int8]}
  - export: {formats: [tflite]}
  - verify
  - benchmark: {targets: [cpu]}
"""


@pytest.fixture
def searched(tmp_path: Path) -> Callable[..., Recipe]:
    """Load the recipe with a line more, and words of it changed."""

    def make(search: str = "", **changed: str) -> Recipe:
        text = TEXT
        for old, new in changed.items():
            assert f"  - {old}" in text
            lines = [new if line.startswith(f"  - {old}") else line for line in text.splitlines()]
            text = "\n".join(line for line in lines if line) + "\n"
        file = tmp_path / "small.yaml"
        file.write_text(text + (f"search: {search}\n" if search else ""))
        return Recipe.load(file)

    return make


@pytest.fixture
def trial() -> Callable[..., Trial]:
    """Make a candidate by what it reached: accuracy by level; the drop is from 0.9."""

    def make(number: int, share: float, ended: str = "done", **accuracies: float) -> Trial:
        reached = tuple(
            Reached(level=level, accuracy=accuracy, drop=0.9 - accuracy, share=share, wall_s=1.0)  # type: ignore[arg-type]
            for level, accuracy in accuracies.items()
        )
        settings = {"stages.prune.macs": share}
        return Trial(number=number, settings=settings, why="border", reached=reached, ended=ended)  # type: ignore[arg-type]

    return make


@pytest.fixture
def goal() -> Goal:
    return Goal(LATENCY, None, "cpu", 0.01, {"size_bytes": 5000.0})


@pytest.fixture
def file() -> Callable[..., FileFigures]:
    """Make the figures of a file: its cost, and what it lost of 0.9."""
    return lambda cost, drop, axis="tflite/int8", **bounded: FileFigures(
        axis=axis, cost=cost, accuracy=0.9 - drop, drop=drop, bounded=bounded
    )


@pytest.fixture
def answer(trial: Callable[..., Trial], file: Callable[..., FileFigures]) -> Answer:
    """Return an answer of two points, of which the second is chosen."""
    files = (file(0.9, 0.002), file(0.45, 0.008))
    finalists = tuple(trial(n, 0.5, measured=0.9).model_copy(update={"files": (one,)}) for n, one in enumerate(files))
    against = (Against(ratio=0.9, low=0.88, high=0.92), Against(ratio=0.5))
    points = tuple(
        Point(
            letter=letter,
            axis=one.axis,
            recipe=f"{letter}.yaml",
            settings={},
            pruned=True,
            validation=one,
            test=FinalFigures(
                accuracy=one.accuracy, drop=one.drop, cost=one.cost, size_bytes=40_000.0, against=compared
            ),
        )
        for letter, one, compared in zip("AB", files, against, strict=True)
    )
    return Answer(
        name="n", goal="g", max_drop=0.01, cost=LATENCY.name, target="cpu", source=0.9, source_on_test=0.9,
        control=0.89, untouched={},
        points=points, budgets=(),
        chosen="B", verdict="B is the best", rankings=(), trials=(), finalists=finalists, unpruned=None, seconds=1.0,
        validation_samples=400,
        chance=0.005,
        test_samples=2000,
    )  # fmt: skip
