"""Kill, interrupt, and run two at once: nothing is lost, nothing is done twice, and the digests are the same."""

import json
import os
import signal
import subprocess
import time

import pytest


def start(command, *arguments):
    return subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "CI": "1"}
    )


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def digests(manifest):
    kinds = ("keras-model", "tflite-model", "onnx-model")
    return {e["id"]: o["digest"] for e in manifest["stages"] for o in e["outputs"] if o["kind"] in kinds}


def test_killed_in_fine_tuning_it_resumes_and_ends_in_the_same_digests(finished, recipe, command, secateur, tmp_path):
    """The uninterrupted run is `finished`: the same recipe and seed, in another store."""
    path, store = recipe(), tmp_path / "store"
    process = start(command, "run", path, "--store", store)
    wait_for(lambda: list(store.glob("work/*/epoch-00001.checkpoint")), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, plan, _ = secateur("plan", path, "--store", store, "--json")
    statuses = {action["id"]: action["status"] for action in plan["actions"]}
    assert (statuses["prune"], statuses["finetune"]) == ("hit", "resume")
    code, manifest, err = secateur("run", path, "--store", store, "--json")
    assert code == 0, err
    statuses = {entry["id"]: entry["status"] for entry in manifest["stages"]}
    assert statuses["finetune"] == "resumed"
    assert statuses["load"] == "hit"
    assert digests(manifest) == digests(finished[2])


def test_ctrl_c_is_exit_130_and_the_next_run_goes_on(recipe, command, secateur, tmp_path):
    path, store = recipe(epochs=30), tmp_path / "store"
    process = start(command, "run", path, "--store", store, "--until", "finetune", "--json")
    wait_for(lambda: list(store.glob("work/*/epoch-00001.checkpoint")), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "interrupted" in err
    entries = {entry["id"]: entry for entry in json.loads(out)["stages"]}
    assert (entries["finetune"]["status"], entries["finetune"]["reason"]) == ("failed", "interrupted")
    assert entries["load"]["status"] == "ran"
    _, manifest, _ = secateur("run", path, "--store", store, "--until", "prune", "--json")
    assert {entry["status"] for entry in manifest["stages"]} == {"hit"}
    assert list(store.glob("work/*/epoch-*.checkpoint"))


def test_two_runs_at_once_share_the_work(recipe, command, tmp_path):
    path, store = recipe(), tmp_path / "store"
    both = [start(command, "run", path, "--store", store, "--until", "finetune", "--json") for _ in range(2)]
    results = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    manifests = [json.loads(out) for out, _ in results]
    ran = [{e["id"] for e in manifest["stages"] if e["status"] == "ran"} for manifest in manifests]
    assert ran[0].isdisjoint(ran[1])
    assert ran[0] | ran[1] == {entry["id"] for entry in manifests[0]["stages"]}
    assert digests(manifests[0]) == digests(manifests[1])


@pytest.mark.parametrize("count", [0, 2], ids=["in load", "in prune"])
def test_killed_elsewhere_the_store_stays_whole(recipe, command, secateur, tmp_path, count):
    path, store = recipe(), tmp_path / "store"
    process = start(command, "run", path, "--store", store, "--until", "prune")
    wait_for(lambda: len(list(store.glob("locks/*.lock"))) > count, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert secateur("store", "verify", "--store", store)[0] == 0
    code, manifest, err = secateur("run", path, "--store", store, "--until", "prune", "--json")
    assert code == 0, err
    assert len([e for e in manifest["stages"] if e["status"] == "hit"]) >= count
