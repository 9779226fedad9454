from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import RecipeError
from pipeline.planning.plan import resolve
from pipeline.recipe.recipe import Recipe
from pipeline.store import Store
from stages.search.candidates import Candidate

TEXT = """\
# The base.
name: base
model: {path: files/m.keras, custom_objects: [mine:Layer]}
data: {source: npz, path: ../d.npz, test: test, metrics: [accuracy, measures:share]}
stages:
  - load
  - prune: {ratio: 0.5}
  - finetune: {epochs: 2, learning_rate: 1e-3}
  - quantize: {schemes: [float32]}
  - export: {formats: [tflite]}
  - benchmark: {targets: [board]}
sweep: {stages.prune.ratio: [0.3, 0.4]}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Write a recipe with files around it."""
    folder = tmp_path / "base"
    (folder / "files").mkdir(parents=True)
    (folder / "files" / "m.keras").write_bytes(b"model")
    for name in ("mine", "measures"):
        (folder / f"{name}.py").write_text(f"NAME = '{name}'\n")
    (folder / "targets").mkdir()
    (folder / "targets" / "board.yaml").write_text("kind: cpu\n")
    x, y = np.zeros((20, 3), np.float32), np.arange(20) % 2
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    (folder / "recipe.yaml").write_text(TEXT)
    return folder / "recipe.yaml"


SETTINGS = {"stages.prune.ratio": 0.25, "stages.finetune.learning_rate": 1e-05, "stages.prune.exclude": ["no: 1", "b*"]}


def test_a_candidate_is_its_base_with_other_values(base: Path) -> None:
    recipe = Candidate(base, SETTINGS, ("seed=9", "stages.prune.ratio=0.9")).recipe()
    prune, finetune = recipe.steps[1].config, recipe.steps[2].config
    assert (prune.ratio, prune.exclude, finetune.learning_rate) == (0.25, ("no: 1", "b*"), 1e-5)
    assert (recipe.seed, finetune.epochs) == (9, 2)
    assert Candidate(base, SETTINGS).label().startswith("prune.ratio 0.25, finetune.learning_rate 1e-05, ")


def test_a_setting_that_names_nothing_is_refused(base: Path) -> None:
    with pytest.raises(RecipeError, match="no stage 'pruned'"):
        Candidate(base, {"stages.pruned.ratio": 0.1}).recipe()


def test_its_file_means_the_same_in_another_folder(base: Path, tmp_path: Path) -> None:
    candidate = Candidate(base, SETTINGS, ("seed=9",))
    target = tmp_path / "front" / "of" / "best.yaml"
    candidate.write(target)
    written, own = Recipe.load(target), candidate.recipe()
    assert written.search is written.sweep is None
    assert [(step.id, step.config) for step in written.steps] == [(step.id, step.config) for step in own.steps]
    assert (written.seed, written.name) == (9, "base")
    store = Store(tmp_path / "store")
    of_written, of_own = resolve(written, store), resolve(own, store)
    for mine, other in zip(of_written.chain.nodes, of_own.chain.nodes, strict=True):
        assert (mine.id, of_written.given(mine)) == (other.id, of_own.given(other))
    assert of_written.action(of_written.chain.nodes[0]) == of_own.action(of_own.chain.nodes[0])
    assert {path.name for path in target.parent.rglob("*.*")} == {"best.yaml", "mine.py", "measures.py", "board.yaml"}
    assert not {"path: /", str(tmp_path)} & set(target.read_text().split())
    head = target.read_text().splitlines()[:5]
    assert head[:3] == [
        "# recipe.yaml with these settings:",
        "#   stages.prune.ratio: 0.25",
        "#   stages.finetune.learning_rate: 1e-05",
    ]
    assert head[4] == "#   --set seed=9"


def test_its_file_can_lie_beside_the_base(base: Path) -> None:
    Candidate(base, {"stages.prune.ratio": 0.25}).write(base.parent / "other.yaml")
    assert Recipe.load(base.parent / "other.yaml").steps[1].config.ratio == 0.25
    assert "path: files/m.keras" in (base.parent / "other.yaml").read_text()
