import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import build_app
from pipeline.errors import RecipeError
from pipeline.recipe.recipe import Recipe
from pipeline.store import Store
from stages.commands.sensitivity import scan_recipe
from stages.prune.sensitivity.page import page_of
from stages.prune.sensitivity.scan import GroupScan, Point, SensitivityReport

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
    settings = (("scope: global", "scope: sensitivity, scan: {ratios: [0.5], scan_samples: 32}"),)
    path = recipe(tmp_path, changes=settings)
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


def test_a_page_is_well_formed_whatever_the_names():
    groups = tuple(
        GroupScan(
            name=f"<{index}&>",
            producers=("a", "b"),
            channels=8,
            points=(Point(ratio=0.5, channels=4, accuracy=0.9 - index / 20),),
        )
        for index in range(12)
    )
    report = SensitivityReport(criterion="l2", split="validation", samples=10, baseline_accuracy=0.9, groups=groups)
    page = page_of(report, "it's <b>")
    seen = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attributes):
            seen.append((tag, dict(attributes)))

    Parser().feed(page)
    tags = [tag for tag, _ in seen]
    assert tags.count("path") == 12
    assert "b" not in tags
    assert "nan" not in page
    heights = [float(attributes["y"]) for tag, attributes in seen if tag == "text" and "style" in attributes]
    assert all(abs(later - earlier) >= 15 for earlier, later in zip(sorted(heights), sorted(heights)[1:], strict=False))
