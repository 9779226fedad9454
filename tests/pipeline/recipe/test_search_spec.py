from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.search_spec import swept

BEGIN = "name: r\nmodel: m.keras\nstages: [load]\n"


def load(tmp_path: Path, text: str) -> Recipe:
    file = tmp_path / "r.yaml"
    file.write_text(BEGIN + text)
    return Recipe.load(file)


def test_reads_a_search(tmp_path: Path) -> None:
    text = """search:
  objectives: [tflite/int8@cpu.latency_ms, accuracy]
  constraints: {accuracy_drop: 0.01, size_bytes: 300000}
  budget: {trials: 12, minutes: 3}
  space: {stages.prune.macs: {low: 0.2, high: 0.9}, stages.finetune.epochs: [3, 5]}
"""
    search = load(tmp_path, text).search
    assert search is not None
    assert search.budget.trials == 12
    assert search.space["stages.finetune.epochs"] == (3, 5)
    assert search.constraints == {"accuracy_drop": 0.01, "size_bytes": 300_000.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("search: {budget: {trials: 0}}", "greater than or equal to 1"),
        ("search: {space: {stages.prune.macs: {low: 0.9, high: 0.2}}}", "low (0.9) must be less than high (0.2)"),
        ("search: {space: {a.b: {low: 0, high: 1, log: true}}}", "log needs low above 0"),
        ("search: {space: {stages.prune.macs: []}}", "is empty"),
        ("search: {objective: [accuracy]}", "unknown key"),
        ("sweep: []", "is empty"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, text)
    assert words in str(caught.value)
    assert ":4" in str(caught.value.where)


def test_has_one_study(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="keep one of them"):
        load(tmp_path, "search: {}\nsweep: {seed: [1]}")


def test_a_study_is_no_part_of_a_run(tmp_path: Path) -> None:
    plain = load(tmp_path, "").digest
    assert load(tmp_path, "sweep: {seed: [1, 2]}").digest == plain
    assert load(tmp_path, "seed: 1").digest != plain


@given(st.dictionaries(st.sampled_from(["a", "b.c", "d"]), st.lists(st.integers(), min_size=1, max_size=4)))
def test_a_grid_has_every_combination_once_in_order(grid: dict[str, list[int]]) -> None:
    made = swept({key: tuple(values) for key, values in grid.items()})
    assert len(made) == math.prod(map(len, grid.values()))
    assert all(list(entry) == list(grid) for entry in made)
    for key, values in grid.items():
        assert sorted(entry[key] for entry in made) == sorted(values * (len(made) // len(values)))


def test_a_list_is_taken_as_it_is() -> None:
    assert swept(({"a": 1}, {"a": 2, "b": [3]})) == ({"a": 1}, {"a": 2, "b": [3]})
