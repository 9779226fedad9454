import os
import sys

import pytest

from pipeline.errors import RecipeError, StageError
from pipeline.recipe.user_code import code_digest, code_input, load_function, told
from pipeline.records.keys import digest_of_bytes

SOURCE = "def double(x):\n    return 2 * x\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE)
    return tmp_path


def test_a_folder_that_was_on_the_path_before_stays_where_it_was(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    before = [*sys.path]
    load_function(folder, "mine:double")
    assert sys.path == before


def test_what_is_run_is_what_was_hashed(folder):
    digest, double = load_function(folder, "mine:double")
    assert digest == code_digest(folder, "mine:double") == digest_of_bytes(SOURCE.encode())
    assert double(4) == 8
    before = (folder / "mine.py").stat()
    (folder / "mine.py").write_text(SOURCE.replace("2", "3"))
    os.utime(folder / "mine.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    changed, triple = load_function(folder, "mine:double")
    assert changed != digest
    assert (double(4), triple(4)) == (8, 12)


def test_it_is_no_module_for_others_and_leaves_no_files(folder):
    load_function(folder, "mine:double")
    assert "mine" not in sys.modules
    assert list(folder.iterdir()) == [folder / "mine.py"]
    assert code_input("mine:double") == code_input("mine:other") == "module mine"


def test_equal_modules_of_two_folders_are_two(folder):
    (folder / "mine.py").write_text("def where():\n    return __file__\n")
    (folder / "other").mkdir()
    (folder / "other" / "mine.py").write_text((folder / "mine.py").read_text())
    for place in (folder, folder / "other"):
        assert load_function(place, "mine:where")[1]() == str(place / "mine.py")


@pytest.mark.parametrize(
    ("reference", "error", "words"),
    [
        ("none:double", RecipeError, "none.py can't be read"),
        ("mine:single", RecipeError, "mine.py has no function single"),
        ("broken:double", StageError, "broken.py failed: SyntaxError"),
    ],
)
def test_what_can_not_be_had_is_named(folder, reference, error, words):
    (folder / "broken.py").write_text("def double(:")
    with pytest.raises(error, match=words):
        load_function(folder, reference)


def test_an_error_is_told_with_the_users_own_line(folder):
    (folder / "mine.py").write_text("import json\n\n\ndef double(x):\n    return json.loads(x)\n")
    with pytest.raises(ValueError, match="Expecting value") as caught:
        load_function(folder, "mine:double")[1]("no json")
    assert told(caught.value) == "JSONDecodeError: Expecting value: line 1 column 1 (char 0) (mine.py:5, in double)"
    assert told(RuntimeError()) == "RuntimeError"
    assert told(RuntimeError("two\nlines")) == "RuntimeError: two"
