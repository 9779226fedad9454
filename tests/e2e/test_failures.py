"""Check that one failing action stops only what needs its outputs, on copies of a finished run's store."""

import shutil

import pytest

from pipeline import Recipe, run
from pipeline.contracts.events import Skipped, Started
from pipeline.errors import BlobError, PostconditionError, PreconditionError, StoreError, UnsupportedError
from pipeline.planning.plan import make_plan
from pipeline.store import Store

STRICT = ("  - verify\n", "  - verify: {tolerances: {int8: {min_cosine: 0.9999999999}}}\n")
STRIPPED = {"strip", "evaluate:strip", "quantize:float32", "quantize:int8"} | {
    f"{stage}:{axis}{device}"
    for stage, device in (("export", ""), ("verify", ""), ("benchmark", "@cpu"))
    for axis in ("tflite/float32", "tflite/int8", "onnx/float32", "onnx/int8")
}


@pytest.fixture
def store(finished, tmp_path):
    """Copy the store in which the recipe ran to its end."""
    shutil.copytree(finished[1], tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture(scope="module")
def failed(assets, finished, secateur, tmp_path_factory):
    """Return a run in which the int8 files fail their verification: recipe, store, output, manifest."""
    folder = tmp_path_factory.mktemp("failed")
    for path in assets.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "strict.yaml").write_text(finished[0].read_text().replace(*STRICT))
    shutil.copytree(finished[1], folder / "store")
    code, text, err = secateur("run", folder / "strict.yaml", "--store", folder / "store")
    assert code == 4, err
    shown = next(line for line in text.splitlines() if line.startswith("  secateur show")).split()[2]
    code, manifest, _ = secateur("show", shown, "--store", folder / "store", "--json")
    assert code == 0
    return folder / "strict.yaml", folder / "store", (text, err), manifest


def status_of(manifest):
    entries = manifest["stages"] if isinstance(manifest, dict) else [e.model_dump() for e in manifest.stages]
    return {entry["id"]: entry["status"] for entry in entries}


def stopping(at, error):
    """Return a listener that makes an action fail before it begins."""

    def listen(event):
        if isinstance(event, Started) and event.action == at:
            raise error

    return listen


def test_failed_verifications_leave_the_others_and_gates_on_them_are_open(failed):
    _, _, (_, err), manifest = failed
    status = status_of(manifest)
    assert [status[f"verify:{axis}"] for axis in ("tflite/float32", "onnx/float32")] == ["ran", "ran"]
    assert [status[f"verify:{axis}"] for axis in ("tflite/int8", "onnx/int8")] == ["failed", "failed"]
    assert {status[name] for name in status if not name.startswith("verify")} == {"hit"}
    assert manifest["verdict"] == "failed"
    assert [(gate["value"], gate["verdict"]) for gate in manifest["gates"]] == [(None, "inconclusive")]
    assert "onnx/float32.accuracy" in manifest["metrics"]
    assert err.count("error: ") == 1
    assert "also failed: verify:onnx/int8: the " in err


def test_the_table_the_id_show_and_export_of_a_failed_run(failed, secateur, tmp_path):
    _, store, (text, _), manifest = failed
    lines = text.splitlines()
    rows = {line.split("  ")[0]: index for index, line in enumerate(lines)}
    assert {"source", "control", "strip", "tflite/float32", "onnx/float32"} <= rows.keys()
    assert "failed" in lines[rows["tflite/int8"]]
    assert lines[rows["tflite/int8"] + 1].strip().startswith("verify: the cosine is")
    assert "FAILED: 2 of 4 verify" in text
    code, told, _ = secateur("show", manifest["run_id"], "--store", store)
    assert code == 0
    assert "verify.tolerances.int8.min_cosine" in told  # also what to do
    code, copied, err = secateur("export", manifest["run_id"], tmp_path / "out", "--store", store, "--json")
    assert (code, "onnx/int8 is left out: its verification failed: the cosine" in err) == (0, True)
    assert {name.partition("/model")[0] for name in copied["files"]} == {
        *("tflite/float32", "onnx/float32", "keras/float32", "manifest.json")
    }


def test_fail_fast_stops_at_the_first_failure(failed, secateur):
    recipe, store, *_ = failed
    code, manifest, err = secateur("run", recipe, "--store", store, "--fail-fast", "--json")
    assert code == 4, err
    status = status_of(manifest)
    after = list(status)[list(status).index("verify:tflite/int8") :]
    assert [status[name] for name in after] == ["failed"] + ["skipped"] * (len(after) - 1)
    assert "also failed" not in err


def test_what_needs_a_lost_input_is_skipped_and_all_else_is_done(finished, store):
    told = []
    error = PreconditionError("no way")

    def listen(event):
        told.append(event)
        stopping("strip", error)(event)

    with pytest.raises(PreconditionError) as caught:
        run(Recipe.load(finished[0]), store, force_from="strip", listener=listen)
    assert caught.value is error
    assert (caught.value.manifest.verdict, caught.value.also) == ("failed", ())
    status = status_of(caught.value.manifest)
    assert {name for name in status if status[name] == "skipped"} == STRIPPED - {"strip"}
    assert {status[name] for name in status.keys() - STRIPPED} == {"hit"}
    assert {"control", "evaluate:control", "baseline:onnx"} <= status.keys() - STRIPPED
    reasons = {event.action: event.reason for event in told if isinstance(event, Skipped)}
    assert reasons == dict.fromkeys(STRIPPED - {"strip"}, "strip failed")
    assert Store(store).runs.get("latest") == caught.value.manifest


@pytest.mark.parametrize(
    "error", [StoreError("the disk is full"), KeyboardInterrupt(), RuntimeError("a fault of ours")]
)
def test_what_is_about_the_whole_run_ends_it_at_once(finished, store, error):
    with pytest.raises(type(error)):
        run(Recipe.load(finished[0]), store, force_from="finetune", listener=stopping("control", error))
    status = status_of(Store(store).runs.get("latest"))
    names = list(status)
    at = names.index("control")
    assert [status[name] for name in names[at:]] == ["failed"] + ["skipped"] * (len(names) - at - 1)


def test_a_damaged_blob_is_the_failure_of_one_action(finished, store):
    error = BlobError("a blob is damaged")
    with pytest.raises(BlobError) as caught:
        run(Recipe.load(finished[0]), store, force_from="strip", listener=stopping("strip", error))
    assert status_of(caught.value.manifest)["baseline:onnx"] == "hit"


def test_the_library_raises_the_first_error_with_the_manifest_and_the_others(failed):
    recipe, store, *_ = failed
    with pytest.raises(PostconditionError, match="the cosine is") as caught:
        run(Recipe.load(recipe), store)
    assert caught.value.where == "tflite/int8"
    assert status_of(caught.value.manifest)["verify:onnx/float32"] == "hit"
    (other,) = caught.value.also
    assert other.startswith("verify:onnx/int8: the ")


def test_what_a_model_can_t_be_made_into_is_left_out_where_the_recipe_says_so(finished, store, tmp_path):
    recipe = tmp_path / "skipping.yaml"
    text = finished[0].read_text()
    recipe.write_text(
        text.replace("formats: [tflite, onnx]", "formats: [tflite, onnx], unsupported: skip, labels: [a, b, c]")
    )
    for path in finished[0].parent.iterdir():
        if path.suffix in (".keras", ".npz"):
            (tmp_path / path.name).symlink_to(path)
    reasons = {}

    def listen(event):
        if isinstance(event, Skipped):
            reasons[event.action] = event.reason
        if isinstance(event, Started) and event.action.startswith(("export", "baseline")):
            raise UnsupportedError("TFLite and ONNX lack it")

    manifest = run(Recipe.load(recipe), store, listener=listen)
    status = status_of(manifest)
    assert {status[name] for name in STRIPPED if name.startswith(("export", "verify", "benchmark"))} == {"skipped"}
    assert reasons["export:onnx/int8"] == "left out: TFLite and ONNX lack it"
    assert reasons["verify:onnx/int8"] == "export:onnx/int8 is left out"
    wanted = [f"{target}/{scheme}" for target in ("tflite", "onnx") for scheme in ("float32", "int8")]
    wanted += ["baseline:tflite", "baseline:onnx"]
    assert manifest.left_out == dict.fromkeys(wanted, "TFLite and ONNX lack it")
    planned = {action.id: action.reason for action in make_plan(Recipe.load(recipe), Store(store)).actions}
    assert planned["export:onnx/int8"] == "left out: TFLite and ONNX lack it"
    assert (manifest.verdict, manifest.gates[0].verdict) == ("inconclusive", "inconclusive")
    with pytest.raises(UnsupportedError, match="lack it") as caught:  # elsewhere it is a failure
        run(Recipe.load(finished[0]), store, force_from="export", listener=listen)
    assert caught.value.manifest.verdict == "failed"


def test_an_end_of_the_child_is_exit_4_that_names_the_action_and_the_rest_is_done(finished, store, secateur):
    """Too little memory ends the child like a crash would."""
    options = ("--store", store, "--force-from", "export", "--json")
    code, manifest, err = secateur("run", finished[0], *options, env={"SECATEUR_CHILD_MEMORY": "1"})
    assert code == 4, err
    assert "making tflite/float32: the process that runs outside software took 0." in err
    assert "export:tflite/float32" in err
    assert "also failed: export:onnx/int8: making onnx/int8: the process" in err
    status = status_of(manifest)
    assert {status[name] for name in status if name.startswith("export")} == {"failed"}
    assert {status[name] for name in status if name.startswith(("verify", "benchmark"))} == {"skipped"}
    assert status["evaluate:strip"] == "hit"
