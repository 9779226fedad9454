"""Prune by a third-party criterion: it works by name in a recipe, without a line outside its own files."""

import json
import shutil
from pathlib import Path

import pytest

TOY = Path(__file__).parents[1] / "toy"
RECIPE = """\
name: toy
model: dense.keras
data: {source: npz, path: d.npz, calibration: {take: 9}}
stages:
  - load
  - prune: {criterion: toy_order, samples: 5, thresholds: {hidden: 12.0}}
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory, secateur, write_dense):
    """Run the command line where the toy is installed, or from another folder, with a network and its recipe."""
    folder = tmp_path_factory.mktemp("toy")
    write_dense(folder)
    (folder / "toy.yaml").write_text(RECIPE)

    def run(*arguments, path=str(TOY)):
        return secateur(*arguments, cwd=folder, env={"PYTHONPATH": path, "SECATEUR_STORE": str(folder / "store")})

    return run, folder


@pytest.fixture(scope="module")
def manifest(toy):
    run, _ = toy
    code, found, err = run("run", "toy.yaml", "--json")
    assert code == 0, err
    return found


def status(plan):
    return {action["id"]: (action["status"], action["reason"]) for action in plan["actions"]}


def test_it_ranks_what_it_was_asked_with_the_samples_of_its_split(toy, manifest):
    _, folder = toy
    (entry,) = (entry for entry in manifest["stages"] if entry["id"] == "prune")
    report = next(output for output in entry["outputs"] if output["kind"] == "prune-report")
    digest = report["files"][0]["digest"].removeprefix("sha256:")
    written = json.loads((folder / "store" / "blobs" / "sha256" / digest).read_text())
    groups = {group["name"]: group["removed"] for group in written["groups"]}
    assert (written["criterion"], groups["hidden"]) == ("toy_order", [0, 1, 2])  # 0, 5 and 10: five samples each
    assert sorted(entry["inputs"]) == ["calibration", "model"]


def test_it_is_listed_and_a_typing_error_is_told_with_its_name(toy):
    run, _ = toy
    code, schema, err = run("schema")
    assert code == 0, err
    assert "toy_order" in json.loads(schema)["$defs"]["stage.prune"]["properties"]["criterion"]["enum"]
    code, _, err = run("plan", "toy.yaml", "--set", "stages.prune.criterion=toy_ordre")
    assert code == 2
    assert "the nearest is toy_order" in err


def test_settings_that_it_does_not_take_are_told_with_all_that_do(toy):
    run, _ = toy
    code, _, err = run("plan", "toy.yaml", "--set", "stages.prune.criterion=l2")
    assert code == 2
    assert "samples is for apoz, hessian, obs, taylor and toy_order: l2 looks at no data" in err


def test_its_version_is_in_the_key(toy, manifest, tmp_path):
    run, _ = toy
    assert status(run("plan", "toy.yaml", "--json")[1])["prune"][0] == "hit"
    shutil.copy(TOY / "toy_criterion.py", tmp_path)
    newer = tmp_path / "toy_criterion-2.dist-info"
    shutil.copytree(TOY / "toy_criterion-1.dist-info", newer)
    (newer / "METADATA").write_text((newer / "METADATA").read_text().replace("Version: 1", "Version: 2"))
    found = status(run("plan", "toy.yaml", "--json", path=str(tmp_path))[1])["prune"]
    assert found == ("run", "toy-criterion 1 → 2")


def test_where_it_is_not_installed_the_recipe_is_refused_and_its_results_are_shown(toy, manifest):
    run, _ = toy
    code, _, err = run("plan", "toy.yaml", path="")
    assert code == 2
    assert '"toy_order" is not allowed' in err
    code, shown, err = run("show", manifest["run_id"], "--json", path="")
    assert (code, shown["metrics"]) == (0, manifest["metrics"]), err
