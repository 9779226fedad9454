import os
import signal
import subprocess
import sys
import threading

import pytest

from pipeline.errors import StoreError
from pipeline.store import Store
from pipeline.store.files import PROCESS
from pipeline.store.leases import is_free, remove_free

USING = """
import sys
from pathlib import Path
from pipeline.store import Store
store = Store(Path(sys.argv[1]))
with store.leases.hold('recipe:r'):
    store.records.get('0' * 64)
    print('held', flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(store):
    """Run a process that holds a lease until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", USING, str(store.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.stdin.close()
    process.stdout.close()
    process.wait()


def test_a_lease_tells_what_a_living_process_uses_and_ends_with_it(store, holder):
    assert list(store.leases.live().values()) == [{"recipe:r", "0" * 64}]
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert store.leases.live() == {}
    assert len(store.leases.files()) == 2


def test_contexts_inside_each_other_share_a_lease_which_notes_all_that_is_looked_up(store, record):
    made = record(store)
    (file,) = made.outputs[0].files
    with store.leases.hold("run:1"):
        with Store(store.root).leases.hold("run:2"):
            store.records.get(made.key)
        (names,) = store.leases.live().values()
        assert names == {"run:1", "run:2", made.key, file.digest}
        assert {path.name for path in store.leases.files()} == {f"{PROCESS}.lock", f"{PROCESS}.txt"}
    assert store.leases.files() == []


def test_without_a_lease_nothing_is_written(store, tmp_path):
    store.records.get("0" * 64)
    assert list((store.root / "leases").iterdir()) == []
    absent = Store(tmp_path / "absent")
    with absent.leases.hold("run:1"):
        absent.records.get("0" * 64)
    assert not absent.root.exists()


def test_a_lease_is_taken_once_the_store_is_there(tmp_path):
    store = Store(tmp_path / "new")
    with store.leases.hold():
        store.create()
        digest = store.blobs.put(b"bytes")
        assert store.leases.live() == {PROCESS: {digest}}


def test_a_collection_waits_for_a_look_and_a_look_for_a_collection(store):
    events, looking = [], threading.Event()

    def look():
        with store.leases.hold(), store.leases.using("k"):
            looking.set()
            events.append("begins")
            # Long enough for the other thread to get ahead if nothing held it back.
            looking.wait(0.2) and threading.Event().wait(0.2)
            events.append("ends")

    thread = threading.Thread(target=look)
    thread.start()
    looking.wait()
    with store.leases.alone():
        events.append("collects")
    thread.join()
    assert events == ["begins", "ends", "collects"]


def test_what_collects_can_look_up_what_its_own_process_has_not_noted(store):
    with store.leases.hold(), store.leases.alone():
        assert store.runs.get("aaaa1111") is None
        assert store.records.get("0" * 64) is None
    with store.leases.hold():
        store.records.get("0" * 64)
        assert list(store.leases.live().values()) == [{"0" * 64}]


def test_a_collection_gives_up_on_a_store_that_stays_locked(store, monkeypatch):
    monkeypatch.setattr("pipeline.store.leases.WAIT_S", 0.1)
    code = (
        "import sys; from pathlib import Path; from pipeline.store import Store\n"
        f"with Store(Path({str(store.root)!r})).leases.alone(): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(StoreError, match="another process keeps the store locked"), store.leases.alone():
        pass
    other.communicate()
    with store.leases.alone():
        pass


def file_in_place_of_the_folder(root):
    (root / "leases").rmdir()
    (root / "leases").write_text("in the way")


def folder_in_place_of_the_lock(root):
    (root / "leases" / "lock").mkdir()


@pytest.mark.parametrize("damage", [file_in_place_of_the_folder, folder_in_place_of_the_lock])
def test_where_no_lease_can_be_written_work_goes_on_without_one(store, damage):
    damage(store.root)
    with store.leases.hold("run:1"):
        assert store.blobs.put(b"bytes") in store.blobs.digests()
    assert store.leases.live() == {}
    with pytest.raises(StoreError) as caught, store.leases.alone():
        pass
    assert caught.value.hint
    store.create()
    with store.leases.alone():
        pass


def test_only_a_lock_file_that_nobody_holds_is_removed(store):
    path = store.root / "locks" / "k.lock"
    with store.lock("k"):
        assert not is_free(path)
        assert not remove_free(path)
    assert is_free(path)
    assert remove_free(path)
    assert not path.exists()
    assert is_free(path)
