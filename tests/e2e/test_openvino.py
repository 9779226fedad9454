"""OpenVINO from export to profile by the command line, in the runtime and the device runner that users have."""

import numpy as np
import pytest

pytest.importorskip("openvino", reason="the extra secateur[openvino] is not installed")

FORMATS = ("formats: [tflite, onnx]", "formats: [openvino]")
GATE = ("tflite/int8.accuracy", "openvino/int8.accuracy")


@pytest.fixture(scope="module")
def measured(assets, secateur_here, tmp_path_factory):
    """A run with files of OpenVINO in two schemes: its folder, its store, its manifest."""
    from .conftest import RECIPE

    folder = tmp_path_factory.mktemp("openvino")
    for path in assets.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "tiny.yaml").write_text(RECIPE.format(epochs=2).replace(*FORMATS).replace(*GATE))
    code, manifest, err = secateur_here("run", folder / "tiny.yaml", "--store", folder / "store", "--json")
    assert code == 0, err
    return folder, manifest


def test_files_are_verified_and_measured_against_the_source_in_the_same_format(measured):
    _, manifest = measured
    metrics = manifest["metrics"]
    assert metrics["openvino/float32.max_abs_diff"] < 1e-5
    assert metrics["openvino/int8.sqnr_db"] > 15
    for scheme in ("float32", "int8"):
        assert metrics[f"openvino/{scheme}@cpu.latency_ratio"] > 0
        assert metrics[f"openvino/{scheme}@cpu.latency_p50_ms"] > 0
    entries = {entry["id"]: entry for entry in manifest["stages"]}
    assert "baseline:openvino" in entries
    (latency,) = (o for o in entries["benchmark:openvino/int8@cpu"]["outputs"] if o["kind"] == "latency-samples")
    assert latency["facts"]["runtime"].startswith("openvino 2026.4.1")
    (model,) = entries["export:openvino/float32"]["outputs"]
    assert model["facts"]["inference_precision"] == "f32"
    assert [file["name"] for file in model["files"]] == ["model.xml", "model.bin"]


def test_its_files_are_benched_compared_and_profiled_by_layer(measured, secateur_here):
    folder, manifest = measured
    store = ("--store", folder / "store")
    code, _, err = secateur_here("export", manifest["run_id"], folder / "out", *store)
    assert code == 0, err
    plain, narrow = (folder / "out" / "openvino" / scheme / "model.xml" for scheme in ("float32", "int8"))
    brief = ("--rounds", "2", "--seconds", "0.01", "--json")
    code, benched, err = secateur_here("bench", plain, *brief)
    assert code == 0, err
    (entry,) = benched["entries"]
    assert entry["metrics"]["size_bytes"] == plain.stat().st_size + plain.with_suffix(".bin").stat().st_size
    code, compared, err = secateur_here("compare", plain, narrow, "--metric", "size", *brief)
    (pair,) = compared["pairs"]
    assert pair["candidate"]["digest"] != pair["baseline"]["digest"]
    code, profiled, err = secateur_here("profile", f"{manifest['run_id']}:openvino/float32", *store, "--json")
    assert code == 0, err
    assert profiled["total"] == pytest.approx(np.sum([operator["cost"] for operator in profiled["operators"]]))
    assert {"stem", "head"} <= {layer for operator in profiled["operators"] for layer in operator["layers"]}
