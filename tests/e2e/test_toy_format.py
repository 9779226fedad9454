"""Run a third-party format and stage: from export to compare, without a line outside their folder."""

import hashlib
from pathlib import Path

import pytest

TOY = Path(__file__).parents[1] / "toy"
RECIPE = """\
name: toy
seed: 3
model: dense.keras
data: {source: npz, path: d.npz, test: test}
stages:
  - load
  - quantize: {schemes: [float32, int8]}
  - export: {formats: [toy, onnx], unsupported: skip, opset: 16, toy: {toy_note: mine}}
  - toy_count
  - verify
  - benchmark: {rounds: 2, seconds: 0.02}
gates:
  - {metric: "toy/float32.toy_weights", min: 1}
  - {metric: "toy/float32.max_abs_diff", max: 1.0e-5}
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory, secateur, write_dense):
    """Run the command line where the toy is installed, with a dense network and its recipe."""
    folder = tmp_path_factory.mktemp("toy")
    write_dense(folder)
    (folder / "toy.yaml").write_text(RECIPE)
    environment = {"PYTHONPATH": str(TOY), "SECATEUR_STORE": str(folder / "store")}

    def run(*arguments, installed=True):
        env = environment if installed else {**environment, "PYTHONPATH": ""}
        return secateur(*arguments, cwd=folder, env=env)

    return run, folder


@pytest.fixture(scope="module")
def manifest(toy):
    run, _ = toy
    code, found, err = run("run", "toy.yaml", "--json")
    assert code == 0, err
    return found


def test_export_verify_benchmark_and_a_stage_of_its_own(toy, manifest):
    metrics = manifest["metrics"]
    assert metrics["toy/float32.max_abs_diff"] < 1e-6
    assert metrics["toy/float32.accuracy"] == metrics["onnx/float32.accuracy"]
    assert (metrics["toy/float32.toy_weights"], metrics["toy/float32.toy_zeros"]) == (6 * 8 + 8 * 3, 0)
    assert metrics["toy/float32@cpu.latency_p50_ms"] > 0
    assert manifest["left_out"].keys() >= {"toy/int8"}
    entries = {entry["id"]: entry for entry in manifest["stages"]}
    (report,) = entries["toy_count:toy/float32"]["outputs"]
    assert (report["kind"], report["facts"]["weights"]) == ("toy-report", 72)
    run, _ = toy
    code, again, err = run("run", "toy.yaml", "--json")
    assert (code, {entry["status"] for entry in again["stages"]}) == (0, {"hit"}), err


def test_what_a_stage_makes_of_an_export_is_verified_and_measured_in_its_place(toy, manifest):
    run, folder = toy
    (folder / "rounded.yaml").write_text(
        RECIPE.replace("  - toy_count\n", "  - toy_round: {decimals: 3}\n  - toy_count\n")
    )
    code, found, err = run("run", "rounded.yaml", "--set", "gates=[]", "--json")
    assert code == 4, err  # 3 decimals are too few for float32
    assert [entry["id"] for entry in found["stages"] if entry["status"] == "failed"] == ["verify:toy/float32"]
    (folder / "rounded.yaml").write_text(
        RECIPE.replace("  - toy_count\n", "  - toy_round: {decimals: 5}\n  - toy_count\n")
    )
    code, found, err = run("run", "rounded.yaml", "--set", "gates=[]", "--json")
    assert code == 0, err
    entries = {entry["id"]: entry for entry in found["stages"]}
    (rounded,) = entries["toy_round:toy/float32"]["outputs"]
    assert (rounded["kind"], rounded["facts"]["inputs"]) == (
        "toy-model",
        [{"name": "x", "shape": [None, 6], "dtype": "float32"}],
    )
    exact, near = (one["metrics"]["toy/float32.max_abs_diff"] for one in (manifest, found))
    assert exact < 1e-6 < near < 1e-4
    assert found["metrics"]["onnx/float32.max_abs_diff"] < 1e-6
    # What is delivered is what was proved.
    code, _, err = run("export", found["run_id"], "rounded", "--json")
    assert code == 0, err
    data = (folder / "rounded" / "toy" / "float32" / "model.npz").read_bytes()
    (file,) = rounded["files"]
    assert file["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    # The baseline is the source by the same way; a latency compares like with like.
    assert entries["baseline:toy:toy_round"]["stage"] == "toy_round"
    assert found["metrics"]["toy/float32@cpu.latency_ratio"] > 0


def test_what_concerns_another_format_exports_nothing_again(toy, manifest):
    run, folder = toy
    (folder / "other.yaml").write_text(RECIPE.replace("opset: 16", "opset: 15"))
    code, plan, _ = run("plan", "other.yaml", "--json")
    status = {action["id"]: action["status"] for action in plan["actions"]}
    assert (code, status["export:toy/float32"], status["export:onnx/float32"]) == (0, "hit", "run")
    (folder / "other.yaml").write_text(RECIPE.replace("toy_note: mine", "toy_note: yours"))
    _, plan, _ = run("plan", "other.yaml", "--json")
    status = {action["id"]: action["status"] for action in plan["actions"]}
    assert (status["export:toy/float32"], status["export:onnx/float32"]) == ("run", "hit")


def test_its_files_are_compared_and_profiling_refuses_with_the_reason(toy, manifest):
    run, folder = toy
    code, copied, err = run("export", manifest["run_id"], "out", "--json")
    assert code == 0, err
    assert "toy/float32/model.npz" in copied["files"]
    file = folder / "out" / "toy" / "float32" / "model.npz"
    brief = ("--rounds", "2", "--seconds", "0.005", "--json")
    code, found, err = run("compare", f"{manifest['run_id']}:toy/float32", file, "--metric", "size", *brief)
    assert code == 0, err
    (pair,) = found["pairs"]
    assert pair["baseline"]["digest"] == pair["candidate"]["digest"]
    code, _, err = run("profile", file)
    assert code == 2
    assert "toy files can't be profiled on cpu: their operators can't be told apart there" in err


def test_where_it_is_not_installed_its_artifacts_read_as_plain_data(toy, manifest):
    run, _ = toy
    code, shown, err = run("show", manifest["run_id"], "--json", installed=False)
    assert code == 0, err
    assert shown["metrics"] == manifest["metrics"]
    facts = [output["facts"] for entry in shown["stages"] for output in entry["outputs"]]
    assert {"kind": "toy-report", "weights": 72, "zeros": 0} in facts
    assert run("store", "verify", installed=False)[0] == 0
    code, _, err = run("plan", "toy.yaml", installed=False)
    assert code == 2
    assert "toy" in err


def test_a_stage_without_its_kind_of_export_says_which_it_takes(toy):
    run, folder = toy
    (folder / "none.yaml").write_text(
        RECIPE.replace("formats: [toy, onnx]", "formats: [onnx]").replace(RECIPE[RECIPE.index("gates") :], "")
    )
    code, _, err = run("plan", "none.yaml")
    assert code == 2
    assert "toy_count takes toy-model, and nothing before it makes one" in err


def test_a_format_whose_package_is_missing_is_refused_by_the_plan(toy):
    run, folder = toy
    (folder / "none.yaml").write_text(RECIPE.replace("formats: [toy, onnx]", "formats: [unmakable]"))
    code, _, err = run("plan", "none.yaml")
    assert code == 2
    assert "unmakable files need the package toy-that-nobody-has" in err
    assert "install toy-that-nobody-has" in err
