import subprocess
import sys
import time

import pytest

from pipeline.errors import StoreError
from pipeline.store import BusyError, Store


def test_opening_an_absent_store_touches_nothing(tmp_path):
    opened = Store(tmp_path / "none")
    assert opened.records.get("0" * 64) is None
    assert opened.runs.ids() == []
    assert not (tmp_path / "none").exists()


def test_a_store_of_another_format_is_refused(store):
    (store.root / "VERSION").write_text("2\n")
    with pytest.raises(StoreError, match="format '2'"):
        Store(store.root)


def test_targets_that_were_set_up_before_the_first_run_do_not_stand_in_its_way(tmp_path):
    (tmp_path / "targets").mkdir()
    opened = Store(tmp_path)
    opened.create()
    assert Store(tmp_path).runs.ids() == []


def test_a_folder_with_other_things_in_it_is_no_store(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(StoreError, match="not a store"):
        Store(tmp_path)


@pytest.mark.parametrize("damage", ["", "\x11\n", "0", "1.2", None])
def test_a_store_that_lost_its_version_is_still_a_store(store, damage):
    marker = store.root / "VERSION"
    marker.unlink()
    if damage is not None:
        marker.write_text(damage)
    for name in ("quarantine", "file-digests"):
        (store.root / name).mkdir()
    (store.root / "file-digests.json").write_text("{}")
    Store(store.root).create()
    assert marker.read_text() == "1\n"


def test_another_program_s_version_file_is_left_alone(tmp_path):
    (tmp_path / "VERSION").write_text("0.1.2\n")
    with pytest.raises(StoreError, match="not a store"):
        Store(tmp_path)


def test_a_link_to_a_disk_that_is_not_there_stays(store):
    (store.root / "blobs").rmdir()
    (store.root / "blobs").symlink_to(store.root.parent / "unmounted")
    with pytest.raises(StoreError, match="can't be used"):
        Store(store.root).create()
    assert (store.root / "blobs").is_symlink()


def test_a_store_whose_creation_was_cut_short_can_be_finished(tmp_path):
    (tmp_path / "tmp").mkdir()
    Store(tmp_path).create()
    assert (tmp_path / "VERSION").read_text() == "1\n"


def test_one_process_holds_a_lock_and_the_other_can_wait_for_it(store):
    code = (
        "import sys, time; from pathlib import Path; from pipeline.store import Store\n"
        f"with Store(Path({str(store.root)!r})).lock('k'): print('held', flush=True); time.sleep(1.0)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BusyError), store.lock("k"):
        pass
    started = time.monotonic()
    store.wait("k")
    assert time.monotonic() - started > 0.3
    with store.lock("k"):
        pass
    holder.stdout.close()
    assert holder.wait() == 0


def test_scratch_is_per_key_and_can_be_forgotten(store):
    folder = store.create_work_dir("k")
    assert not store.can_resume("k")
    (folder / "tmp123").write_text("left by a write that was cut short")
    assert not store.can_resume("k")
    (folder / "epoch").write_text("1")
    assert store.can_resume("k")
    store.remove_work_dir("k")
    assert not folder.exists()
