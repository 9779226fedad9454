import resource
import subprocess
import sys

import pytest

from pipeline.errors import StoreError
from pipeline.store import Store


def test_files_have_the_mode_of_ordinary_files(store, tmp_path, record):
    made = record(store)
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert store.records.path(made.key).stat().st_mode == ordinary.stat().st_mode


def test_a_store_below_a_file_is_an_error_with_a_hint(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError) as caught:
        Store(tmp_path / "file" / "store").create()
    assert "--store" in caught.value.hint


def test_a_write_that_does_not_fit_leaves_nothing_behind(store):
    """A limit on file size fails a write halfway, like a full disk, on a real file system."""
    code = (
        "import resource, sys; from pathlib import Path; from pipeline.store import Store;"
        "from pipeline.errors import StoreError\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (1000, {resource.getrlimit(resource.RLIMIT_FSIZE)[1]}))\n"
        f"try: Store(Path({str(store.root)!r})).blobs.put(b'x' * 2000)\n"
        "except StoreError as error: sys.exit(40 if error.hint else 41)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 40
    assert list(store.blobs.digests()) == []
    assert list((store.root / "tmp").iterdir()) == []
