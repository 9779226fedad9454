"""Check collections on real stores: with processes at work, with what killed ones left, and before a next run."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from pipeline import Recipe, run
from pipeline.errors import StoreError
from pipeline.records.manifest import ActionRecord
from pipeline.store import Store, choice, gc
from pipeline.store.choice import DAY_S, GRACE_S, Limits
from pipeline.store.gc import collect, collect_if_due
from pipeline.store.settings import GcSettings

NOTHING = Limits(max_bytes=0)


def files(root):
    """Return all files below a store that hold something, by their contents."""
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if name not in ("leases/lock", "leases/collected")}


def age(path, seconds):
    for part in (*path.rglob("*"), path):
        os.utime(part, (time.time() - seconds,) * 2)


def outputs(manifest):
    return {entry.id: [output.digest for output in entry.outputs] for entry in manifest.stages}


@pytest.fixture
def filled(store, record, run_of):
    """Fill a store with two runs that share an action, 40 days old and new."""
    shared, old, new = (record(store, data, stage=data.decode()) for data in (b"shared", b"old", b"new"))
    run_of(store, "aaaa1111", shared, old, age_s=40 * DAY_S)
    run_of(store, "bbbb2222", shared, new)
    return {"shared": shared.key, "old": old.key, "new": new.key}


def test_what_only_an_old_run_needs_goes_with_it(store, filled):
    collected = collect(store, Limits(keep_days=30))
    assert collected.runs == ["aaaa1111"]
    assert [store.records.get(filled[name]) is None for name in ("shared", "old", "new")] == [False, True, False]
    assert len(list(store.blobs.digests())) == 2
    assert store.runs.ids() == ["bbbb2222"]
    assert [path.name for path in (store.root / "runs").iterdir()] == ["bbbb2222"]


def test_a_pinned_run_survives_the_smallest_size(store, filled):
    store.pins.add("aaaa1111")
    assert collect(store, NOTHING).runs == ["bbbb2222"]
    fresh = Store(store.root)
    assert isinstance(fresh.records.get(filled["shared"]), ActionRecord)
    assert isinstance(fresh.records.get(filled["old"]), ActionRecord)
    assert fresh.records.get(filled["new"]) is None
    store.pins.remove("aaaa1111")
    assert collect(store, NOTHING).kept_bytes == 0


@pytest.mark.parametrize(
    "damage", [lambda data: b"{", lambda data: data.replace(b'"wall_s": 0.1', b'"wall_s": 0.3'), None]
)
def test_nothing_is_removed_while_it_can_not_be_told_what_a_pinned_run_reaches(store, filled, damage):
    store.pins.add("aaaa1111")
    manifest = store.root / "runs" / "aaaa1111" / "manifest.json"
    data = manifest.read_bytes()
    manifest.unlink()
    if damage:
        manifest.write_bytes(damage(data))
    before = files(store.root)
    with pytest.raises(StoreError, match="pinned run aaaa1111 is damaged or missing"):
        collect(store, NOTHING)
    assert files(store.root) == before


@pytest.mark.parametrize("limits", [NOTHING, Limits(keep_days=30), Limits()])
def test_a_dry_run_removes_nothing_and_its_figures_are_those_of_the_real_one(store, filled, limits):
    for name in (
        "tmp/of a dead process",
        "work/k/epoch-1",
        "locks/k.lock",
        "quarantine/damaged",
        "leases/dead.lock",
        "leases/dead.txt",
    ):
        (store.root / name).parent.mkdir(parents=True, exist_ok=True)
        (store.root / name).write_text("left")
    age(store.root / "tmp", GRACE_S + 1)
    before = files(store.root)
    told = collect(store, limits, dry_run=True)
    assert files(store.root) == before
    done = collect(store, limits)
    assert (done.removed, done.runs, done.before_bytes) == (told.removed, told.runs, told.before_bytes)
    after = files(store.root)
    assert set(after) < set(before)
    assert sum(len(before[name]) for name in before.keys() - after.keys()) == done.freed_bytes > 0
    again = collect(store, limits)
    assert (again.before_bytes, again.freed_bytes) == (done.kept_bytes, 0)


WRITER = """
import os, sys
from pathlib import Path
from pipeline.store import Store, files
store = Store(Path(sys.argv[1]))
with store.leases.hold():
    key = sys.argv[2] * 64
    store.records.get(key)
    with store.lock(key):
        (store.create_work_dir(key) / 'epoch-1').write_text('progress')
        (store.root / 'tmp' / f'{files.PROCESS}-{sys.argv[2]}').write_text('half of a blob')
        store.blobs.put(sys.argv[2].encode())
        print('working', flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def writer(store):
    """Start processes that work on an action, whose key repeats a digit, until their input ends."""
    started = []

    def start(digit):
        command = [sys.executable, "-c", WRITER, str(store.root), digit]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == "working\n"
        return started[-1]

    yield start
    for process in started:
        process.communicate()


def test_what_a_killed_writer_left_goes_and_what_a_living_one_has_stays(store, writer):
    dead, _living = writer("a"), writer("b")
    os.kill(dead.pid, signal.SIGKILL)
    dead.wait()
    for name in ("tmp", "work", "blobs", "locks"):
        age(store.root / name, DAY_S)
    blob = {digit: store.blobs.put(digit.encode()) for digit in "ab"}  # they are there: nothing is written
    done = collect(store, NOTHING)
    assert done.processes == 1
    assert {kind: figures.count for kind, figures in done.removed.items() if figures.count} == dict.fromkeys(
        ("blobs", "work", "tmp", "locks"), 1
    ) | {"leases": 2}
    assert set(store.blobs.digests()) == {blob["b"]}
    assert [path.name for path in (store.root / "work").iterdir()] == ["b" * 64]
    assert [path.stem for path in (store.root / "locks").iterdir()] == ["b" * 64]
    assert len(list((store.root / "tmp").iterdir())) == 1
    assert len(store.leases.files()) == 2


def test_scratch_of_a_recorded_action_goes_and_that_of_a_stopped_one_stays_as_long_as_its_run(store, record, run_of):
    made = record(store)
    (store.create_work_dir(made.key) / "epoch-1").write_text("left between the record and the removal")
    stopped = made.model_copy(update={"key": "c" * 64, "outputs": ()})
    (store.create_work_dir("c" * 64) / "epoch-1").write_text("to be resumed")
    (store.create_work_dir("d" * 64) / ".file").write_text("a copy of the model, and no progress")
    run_of(store, "aaaa1111", made)
    document = (store.root / "runs" / "aaaa1111" / "manifest.json").read_text()
    (store.root / "runs" / "aaaa1111" / "manifest.json").write_text(document.replace(made.key, stopped.key))
    age(store.root / "work", GRACE_S + 1)
    assert collect(store, Limits(keep_days=1)).removed["work"].count == 2
    assert store.can_resume("c" * 64)
    collect(store, NOTHING)
    assert list((store.root / "work").iterdir()) == []


def test_a_killed_collection_leaves_no_record_without_its_files(store, filled, monkeypatch):
    """It is stopped before each of its removals in turn: what is left never names what is gone."""
    count = sum(figures.count for figures in collect(store, NOTHING, dry_run=True).removed.values())
    assert count == 8
    shutil.copytree(store.root, store.root.parent / "whole")
    remove = gc._remove
    for stop in range(count):
        shutil.rmtree(store.root)
        shutil.copytree(store.root.parent / "whole", store.root)
        left = iter([True] * stop)

        def killed(kind, path, left=left):
            if not next(left, False):
                raise KeyboardInterrupt
            return remove(kind, path)

        monkeypatch.setattr(gc, "_remove", killed)
        with pytest.raises(KeyboardInterrupt):
            collect(store, NOTHING)
        monkeypatch.setattr(gc, "_remove", remove)
        fresh = Store(store.root)
        keys = set(fresh.records.keys())
        assert all(isinstance(fresh.records.get(key), ActionRecord) for key in keys)
        assert {entry.key for run_id in fresh.runs.ids() for entry in fresh.runs.get(run_id).stages} <= keys
    collect(Store(store.root), NOTHING)


RUNNING = """
import sys
from pathlib import Path
from pipeline import Recipe, run
from pipeline.contracts.events import Started

def pause(event):
    if isinstance(event, Started) and event.action.startswith('export'):
        print('paused', flush=True)
        sys.stdin.readline()

print(run(Recipe.load(Path(sys.argv[1])), sys.argv[2], force_from='export', listener=pause).run_id)
"""


def test_a_run_in_another_process_loses_nothing_and_what_was_removed_is_made_again(finished, tmp_path, record, run_of):
    recipe, original, manifest = finished
    store = Store(tmp_path / "store")
    shutil.copytree(original, store.root)
    other = record(store)
    run_of(store, "aaaa1111", other, age_s=DAY_S)
    age(store.root, DAY_S)
    command = [sys.executable, "-c", RUNNING, str(recipe), str(store.root)]
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert running.stdout.readline() == "paused\n"
    done = collect(store, NOTHING)
    assert done.processes == 1
    assert "aaaa1111" in done.runs
    assert store.records.get(other.key) is None
    run_id = running.communicate("go on\n")[0].strip()
    assert running.returncode == 0
    assert outputs(store.runs.get(run_id)) == outputs(manifest)
    again = run(Recipe.load(recipe), store.root)
    assert {entry.status for entry in again.stages} == {"hit"}
    assert collect(store, NOTHING).kept_bytes == 0
    made_again = run(Recipe.load(recipe), store.root)
    assert {entry.status for entry in made_again.stages} == {"ran"}
    assert outputs(made_again) == outputs(manifest)


def test_an_automatic_collection_is_due_once_an_hour(store, filled):
    assert collect_if_due(store, GcSettings()) is None
    automatic = GcSettings(automatic=True, keep_days=30)
    assert collect_if_due(store, automatic).runs == ["aaaa1111"]
    assert collect_if_due(store, automatic) is None
    os.utime(store.root / "leases" / "collected", (time.time() - 3601,) * 2)
    assert collect_if_due(store, automatic).runs == []


def test_a_run_collects_by_the_settings_and_keeps_itself(finished, tmp_path, monkeypatch, record, run_of):
    recipe, original, _ = finished
    store = Store(tmp_path / "store")
    shutil.copytree(original, store.root)
    run_of(store, "aaaa1111", record(store))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "secateur").mkdir()
    (tmp_path / "secateur" / "settings.yaml").write_text("gc: {automatic: true, max_size: 0}")
    manifest = run(Recipe.load(recipe), store.root)
    assert store.runs.ids() == [manifest.run_id]
    assert {entry.status for entry in run(Recipe.load(recipe), store.root).stages} == {"hit"}


SECONDS = 3.0
CHAINS = """
import random, sys, time
from pathlib import Path

from pipeline.contracts.stage import StageConfig, StageResult
from pipeline.recipe.recipe import Recipe
from pipeline.records.artifacts import Artifact
from pipeline.records.facts import CalibrationFacts
from pipeline.records.manifest import Action, ActionRecord, RunManifest, StageEntry
from pipeline.running import run_action
from pipeline.running.run_action import Job, RunScope, perform
from pipeline.store import Store, choice, gc


class Appending:
    outputs = ("calibration-set",)

    def requires(self, config, inputs):
        pass

    def ensures(self, context, result):
        pass

    def run(self, context):
        (context.work_dir / "step").write_text("1")
        data = b"".join(context.read(name, "f").read_bytes() for name in context.inputs)
        time.sleep(random.random() * 0.01)
        assert (context.work_dir / "step").read_text() == "1"
        file = context.write("f", data[-1000:] + bytes([context.job.action.config["n"]]), "x/y")
        return StageResult((Artifact(files=(file,), facts=CalibrationFacts(samples=1)),), {})


def chain(store, scope):
    records = []
    for index in range(6):
        inputs = {str(place): made.outputs[0] for place, made in enumerate(records[-2:])}
        digests = {name: artifact.digest for name, artifact in inputs.items()}
        of_stage = {"stage": "appending", "version": 1, "axis": None, "config": {"n": random.randrange(3)}}
        action = Action(**of_stage, inputs=digests, packages={}, seed=None, threads=None, device=None)
        records.append(perform(Job(f"appending[{index}]", action, StageConfig(), inputs), scope).record)
    return records


run_action.stages = lambda: {"appending": Appending()}
random.seed(int(sys.argv[3]))
end, count = time.monotonic() + float(sys.argv[4]), 0
while time.monotonic() < end or count == 0:
    store, run_id = Store(Path(sys.argv[1])), f"{int(sys.argv[3]):04x}{count:04x}"
    with store.leases.hold():
        records = chain(store, RunScope(Recipe.load(Path(sys.argv[2])), store, None, {}, lambda event: None, run_id))
        for record in records:
            assert Store(store.root).records.get(record.key) == record
        count += 1
print(count)
"""


def test_nothing_that_two_processes_work_on_is_removed_and_afterwards_everything(recipe_file, store, monkeypatch):
    for module in (choice, gc):  # the other processes have leases, and need no grace
        monkeypatch.setattr(module, "GRACE_S", 0.0)
    command = [sys.executable, "-c", CHAINS, str(store.root), str(recipe_file())]
    workers = [
        subprocess.Popen([*command, str(seed), str(SECONDS)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for seed in (1, 2)
    ]
    removed = 0
    while any(worker.poll() is None for worker in workers):
        removed += collect(Store(store.root), NOTHING).removed["records"].count
    ended = [worker.communicate() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], ended
    assert removed > 0
    collect(Store(store.root), NOTHING)
    left = sorted(path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file())
    assert left == ["VERSION", "leases/collected", "leases/lock"]
