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
