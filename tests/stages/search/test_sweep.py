from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.contracts.events import Event, Finished, Started
from pipeline.errors import RecipeError, StageError
from pipeline.recipe.recipe import Recipe
from pipeline.records.manifest import RunManifest
from stages.search.sweep import SweepEntry, SweepReport, read_sweep, sweep_table

TEXT = """\
name: base
model: m.keras
stages: [load, {{prune: {{ratio: 0.5}}}}, strip]
gates: [{{metric: strip.params, max: 10}}]
{sweep}
"""


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def loaded(sweep: str) -> Recipe:
        (tmp_path / "r.yaml").write_text(TEXT.format(sweep=sweep))
        return Recipe.load(tmp_path / "r.yaml")

    return loaded


def manifest(run_id: str, verdict: str, **metrics: float) -> RunManifest:
    named = {name.replace("__", "."): value for name, value in metrics.items()}
    return RunManifest(
        run_id=run_id,
        name="base",
        recipe_digest="sha256:" + "0" * 64,
        stages=(),
        metrics=named,
        gates=(),
        verdict=verdict,
    )


class Ending:
    """Be workers that know how recipes end."""

    def __init__(self, *ends: Any) -> None:
        self.ends = ends

    def run(self, recipes: Sequence[Recipe], until: str | None = None, listener: Any = None) -> Iterator[Any]:
        for index, end in reversed(list(enumerate(self.ends))):
            listener(index, Started("prune", "first run"))
            listener(index, Finished("load", "hit", "unchanged", 0.0))
            yield index, end


def test_a_sweep_ends_in_one_entry_a_recipe_in_its_order(load) -> None:
    sweep = read_sweep(load("sweep: {stages.prune.ratio: [0.2, 0.4], seed: [1, 2]}"))
    failed = StageError("out of luck\nand more")
    failed.manifest = manifest("dddd", "failed")
    ends = (
        manifest("aaaa", "pass", strip__params=9.0, strip__size_bytes=1234.0),
        manifest("bbbb", "fail", strip__params=11.0),
        manifest("cccc", "inconclusive"),
        failed,
    )
    heard, said = list[Event](), list[str]()
    report = sweep.run(Ending(*ends), heard.append, said.append)
    assert [entry.settings for entry in report.recipes] == [
        {"stages.prune.ratio": ratio, "seed": seed} for ratio in (0.2, 0.4) for seed in (1, 2)
    ]
    assert [entry.run_id for entry in report.recipes] == ["aaaa", "bbbb", "cccc", "dddd"]
    assert report.recipes[3].error == "out of luck\nand more"
    assert report.main == ("strip.params",)
    assert report.exit_code == 4
    assert said[0] == "1 of 4   4: prune.ratio 0.4, seed 2: failed: out of luck"
    assert [event.action for event in heard[:2]] == ["4: prune", "load"]
    lines = sweep_table(report).splitlines()
    assert lines[0].split() == ["prune.ratio", "seed", "strip.params", "verdict", "run"]
    assert lines[1].split() == ["1", "0.2", "1", "9", "pass", "aaaa"]
    assert lines[4].split() == ["4", "0.4", "2", "failed", "dddd"]
    assert lines[5] == "4: out of luck"


def test_the_table_tells_accuracy_size_and_speed_of_the_last_file(load) -> None:
    metrics = {
        "source.accuracy": 0.9,
        "tflite/float32.accuracy": 0.8,
        "tflite/int8.accuracy": 0.7,
        "tflite/int8.size_bytes": 2e3,
        "tflite/int8.max_abs": 0.1,
        "tflite/int8@cpu.latency_ratio": 0.4,
        "tflite/int8@cpu.size_bytes": 2e3,
        "strip.params": 3.0,
    }
    end = manifest("aaaa", "pass").model_copy(update={"metrics": metrics})
    report = read_sweep(load("sweep: [{seed: 1}]")).run(Ending(end), lambda event: None, lambda line: None)
    wanted = ("accuracy", "size_bytes")
    assert report.main == ("strip.params", *(f"tflite/int8.{name}" for name in wanted), "tflite/int8@cpu.latency_ratio")
    assert sweep_table(report).splitlines()[1].split() == ["1", "1", "3", "0.7", "2.0", "kB", "0.4", "pass", "aaaa"]


@pytest.mark.parametrize(
    ("verdicts", "code"), [("pass fail", 0), ("fail inconclusive", 5), ("fail fail", 1), ("pass failed", 4)]
)
def test_the_exit_code_says_whether_any_recipe_holds_its_gates(verdicts: str, code: int) -> None:
    entries = [SweepEntry(settings={}, run_id=None, verdict=v, metrics={}, error=None) for v in verdicts.split()]
    assert SweepReport(name="n", main=(), recipes=tuple(entries)).exit_code == code


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ("", "the recipe has no sweep"),
        ("sweep: {stages.prune.ratoi: [0.1]}", "ratoi: unknown key"),
        ("sweep: [{seed: 1}, {stages.finetune.epochs: 1}]", "no stage 'finetune'"),
    ],
)
def test_a_sweep_that_is_not_valid_runs_nothing(load, sweep: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_sweep(load(sweep))
    assert words in caught.value.what
    assert "r.yaml" in str(caught.value.where)
