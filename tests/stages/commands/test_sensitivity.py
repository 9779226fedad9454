import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import build_app
from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.store import Store
from stages.commands.sensitivity import scan_recipe
from stages.prune.sensitivity.scan import SensitivityReport

DEMO = Path(__file__).parents[3] / "configs" / "demo.yaml"


def recipe(tmp_path, *, changes=()):
    """Return the demo's recipe, with paths that are valid from anywhere."""
    text = DEMO.read_text().replace("assets/", f"{DEMO.parent}/assets/")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_the_scan_ranks_as_the_first_pruning_does(tmp_path):
    scan = scan_recipe(Recipe.load(DEMO))
    assert [step.stage for step in scan.steps] == ["load", "sensitivity"]
    assert scan.steps[-1].config.criterion == Recipe.load(DEMO).steps[1].config.criterion
    assert scan.gates == ()
    bare = tmp_path / "bare.yaml"
    bare.write_text("name: bare\nmodel: m.keras\nstages: [load, strip]\n")
    with pytest.raises(RecipeError, match="prunes nothing"):
        scan_recipe(Recipe.load(bare))


def test_the_command_writes_a_page_and_the_scan_is_what_pruning_takes(tmp_path):
    ranked = "criterion: obs, scope: loss, macs: 0.5, round_to: 8, data_split: train, samples: 1024"
    scanned = "criterion: l2, scope: sensitivity, macs: 0.5, round_to: 8, scan: {ratios: [0.5], scan_samples: 32}"
    path = recipe(tmp_path, changes=((ranked, scanned),))
    page, store = tmp_path / "page.html", tmp_path / "store"
    arguments = ["sensitivity", str(path), "-o", str(page), "--store", str(store)]
    result = CliRunner().invoke(build_app(["sensitivity", "version"]), arguments, catch_exceptions=False)
    assert result.stdout == f"wrote {page}\n"
    assert "block5_sepconv1" in page.read_text()
    again = CliRunner().invoke(build_app(["sensitivity", "version"]), [*arguments, "--json"], catch_exceptions=False)
    report = SensitivityReport.model_validate_json(again.stdout)
    assert report.samples == 32

    ran = CliRunner().invoke(
        build_app(["run", "version"]), ["run", str(path), "--store", str(store), "--until", "prune", "--json"]
    )
    assert ran.exit_code == 0, ran.output
    prune = next(entry for entry in json.loads(ran.stdout)["stages"] if entry["id"] == "prune")
    (child,) = (Store(store).records.get(key) for key in prune["children"])
    assert child.action.stage == "sensitivity"
    assert child.provenance.run_id != json.loads(ran.stdout)["run_id"]  # the command's own scan was used
    with pytest.raises(RecipeError, match="can't be written there"):
        CliRunner().invoke(
            build_app(["sensitivity", "version"]),
            ["sensitivity", str(path), "-o", str(tmp_path / "no" / "page.html"), "--store", str(store)],
            catch_exceptions=False,
        )
