"""Re-fit after pruning, as a user does: once, in a repeat, and where it can't be."""

import json

import pytest

HEAD = """\
name: tiny
seed: 5
model: tiny.keras
data:
  source: npz
  path: data.npz
  preprocess: {scale: 0.00784313725490196, offset: -1.0}
  calibration: {take: 48}
  test: test
stages:
  - load
"""
ROUNDS = """\
  - repeat:
      times: 2
      stages: [prune: {ratio: 0.6}, reconstruct: {samples: 64, data_split: train}, finetune: {epochs: 1}]
"""


@pytest.fixture
def run(assets, tmp_path, secateur_here):
    """Run a recipe of these stages: exit code, manifest, what is told."""
    for path in assets.iterdir():
        (tmp_path / path.name).symlink_to(path)

    def ran(stages, command="run"):
        (tmp_path / "tiny.yaml").write_text(HEAD + stages)
        return secateur_here(command, tmp_path / "tiny.yaml", "--store", tmp_path / "store", "--json")

    return ran


@pytest.mark.slow
def test_rounds_of_pruning_reconstruction_and_training(run, tmp_path):
    code, manifest, err = run(ROUNDS)
    assert code == 0, err
    entries = {entry["id"]: entry for entry in manifest["stages"]}
    for number, took in (("1", "load"), ("2", "finetune[1]")):
        entry = entries[f"reconstruct[{number}]"]
        (model,) = (output for output in entries[took]["outputs"] if output["kind"] == "keras-model")
        assert entry["inputs"]["source"] == model["digest"]
        assert entry["metrics"]["output_error"] < entry["metrics"]["output_error_before"]
        report = next(output for output in entry["outputs"] if output["kind"] == "reconstruction-report")
        blob = tmp_path / "store" / "blobs" / "sha256" / report["files"][0]["digest"].removeprefix("sha256:")
        layers = json.loads(blob.read_text())["layers"]
        assert [layer["layer"] for layer in layers] == ["stem", "sep", "head"]
        assert sum(layer["kept"] for layer in layers) == report["facts"]["fitted"] > 0
    assert "reconstruct[2].accuracy" in manifest["metrics"]
    code, again, _ = run(ROUNDS)
    assert {entry["status"] for entry in again["stages"]} == {"hit"}
    assert not [*(tmp_path / "store" / "work").iterdir()]  # scratch goes with the action


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        (
            "  - prune: {ratio: 0.5}\n  - strip: {fold_batch_norm: true}\n  - reconstruct\n",
            "reconstruct directly after",
        ),
        (
            "  - prune: {ratio: 0.5}\n  - prune: {method: unstructured, ratio: 0.5}\n  - reconstruct\n",
            "put reconstruct before the unstructured prune",
        ),
    ],
)
def test_where_it_stands_too_late(run, stages, told):
    code, manifest, err = run(stages)
    assert code == 4
    assert told in err
    assert "Traceback" not in err
    assert manifest["verdict"] == "failed"
