"""Compare runs and artifacts of a real store through the command line."""

import json
import subprocess
import sys


def artifact_of(manifest, axis):
    entry = next(entry for entry in manifest["stages"] if entry["stage"] == "export" and entry["axis"] == axis)
    return entry["outputs"][0]


def test_a_reader_that_goes_leaves_the_exit_code(tmp_path):
    nothing = tmp_path / "h.jsonl"
    for arguments, code in ((("schema",), 0), (("history", str(nothing), "--json"), 2)):
        command = [sys.executable, "-m", "pipeline", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            said = process.stderr.read().decode()
        assert process.returncode == code
        assert "Traceback" not in said
        assert "BrokenPipe" not in said


def test_a_run_against_itself_has_equal_sizes_and_accuracies(finished, secateur):
    _, store, manifest = finished
    run = manifest["run_id"]
    exact = ("--metric", "size", "--metric", "accuracy", "--tolerance", "0%", "--tolerance", "accuracy=0%")
    code, report, err = secateur("compare", run, "latest", *exact, "--store", store, "--json")
    assert code == 0, err
    assert [pair["name"] for pair in report["pairs"]] == [
        f"{f}/{scheme}" for f in ("tflite", "onnx") for scheme in ("float32", "int8")
    ]
    for pair in report["pairs"]:
        accuracy, size = sorted(pair["metrics"], key=lambda found: found["metric"])
        assert accuracy["change"] == size["change"] == 0
        assert accuracy["baseline"] == manifest["metrics"][f"{pair['name']}.accuracy"]
        assert size["baseline"] == artifact_of(manifest, pair["name"])["files"][0]["size"]


def test_an_export_an_artifact_and_a_copied_file_are_the_same_model(finished, secateur, tmp_path):
    recipe, store, manifest = finished
    digest = artifact_of(manifest, "tflite/int8")["digest"]
    assert secateur("export", "latest", tmp_path, "--store", store)[0] == 0
    names = ("latest:tflite/int8", digest[:20], tmp_path / "tflite" / "int8" / "model.tflite")
    digests = set()
    for name in names:
        options = ("--data", recipe, "--metric", "accuracy", "--tolerance", "accuracy=100%", "--store", store, "--json")
        code, report, err = secateur("compare", "latest:tflite/float32", name, *options)
        assert code == 0, err
        (pair,) = report["pairs"]
        (accuracy,) = pair["metrics"]
        assert accuracy["candidate"] == manifest["metrics"]["tflite/int8.accuracy"]
        assert accuracy["baseline"] == manifest["metrics"]["tflite/float32.accuracy"]
        digests.add(pair["candidate"]["digest"])
    assert len(digests) == 1


def test_latency_of_several_models_at_once(finished, secateur):
    _, store, _ = finished
    options = ("--rounds", "2", "--seconds", "0.005", "--metric", "latency", "--store", store)
    code, report, err = secateur("compare", "latest", "latest", *options, "--tolerance", "99%", "--json")
    assert code in (0, 5), err  # a model is not slower than itself, whatever else runs on the machine
    assert len(report["pairs"]) == 4
    assert all(pair["metrics"][0]["evidence"]["p_value"] >= 0.125 for pair in report["pairs"])


def test_the_annotation_points_into_the_runs_recipe(finished, secateur):
    recipe, store, manifest = finished
    sizes = {axis: artifact_of(manifest, axis)["files"][0]["size"] for axis in ("tflite/int8", "tflite/float32")}
    small, large = sorted(sizes, key=sizes.get)
    options = ("--metric", "size", "--tolerance", "0%", "--format", "github", "--store", store)
    code, text, err = secateur("compare", f"latest:{small}", f"latest:{large}", *options, cwd=recipe.parent)
    assert code == 1, err
    lines = recipe.read_text().splitlines()
    number = int(text.partition("line=")[2].partition(",")[0])
    assert text.startswith(f"::error file={recipe.name},line={number},title=regression%3A size of {large}::")
    assert lines[number - 1].strip().startswith("- export")


def test_what_a_run_does_not_have_is_named_with_what_it_has(finished, secateur):
    _, store, manifest = finished
    code, _, err = secateur("compare", "latest:tflite/int9", "latest", "--store", store)
    assert code == 2
    assert "the nearest" in err
    wrong = ("0" if manifest["run_id"][0] != "0" else "1") + manifest["run_id"][1:]
    code, document, _ = secateur("compare", wrong, "latest", "--store", store, "--json")
    assert code == 2
    assert manifest["run_id"] in document["error"]["hint"]
    assert json.dumps(document["error"]["what"]).count("is not a file, a run or an artifact") == 1
