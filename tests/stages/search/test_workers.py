from __future__ import annotations

from pathlib import Path

from pipeline.contracts.events import Event, Finished
from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.records.manifest import RunManifest
from pipeline.store import Store
from stages.search.workers import Here

TEXT = "name: {name}\nmodel: {model}\nstages: [load, strip, {{quantize: {{schemes: [float32]}}}}]\n"


def test_recipes_run_one_after_another_and_one_that_can_not_run_stops_no_other(tmp_path: Path, small) -> None:
    small.source.save(tmp_path / "m.keras")
    recipes = []
    for name, model in (("a", "m.keras"), ("b", "absent.keras"), ("c", "m.keras")):
        (tmp_path / f"{name}.yaml").write_text(TEXT.format(name=name, model=model))
        recipes.append(Recipe.load(tmp_path / f"{name}.yaml"))
    store, heard = Store(tmp_path / "store"), list[tuple[int, Event]]()
    ended = dict(Here(store).run(recipes, "strip", lambda *event: heard.append(event)))
    assert list(ended) == [0, 1, 2]
    assert isinstance(ended[1], RecipeError)
    assert "absent.keras is not there" in ended[1].what
    first, last = ended[0], ended[2]
    assert isinstance(first, RunManifest)
    assert isinstance(last, RunManifest)
    assert [entry.status for entry in first.stages] == ["ran", "ran"]
    assert [entry.status for entry in last.stages] == ["hit", "hit"]
    assert store.runs.get(last.run_id) == last
    finished = [(index, event.action) for index, event in heard if isinstance(event, Finished)]
    assert finished == [(0, "load"), (0, "strip"), (2, "load"), (2, "strip")]
