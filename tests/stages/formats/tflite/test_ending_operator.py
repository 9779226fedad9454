"""Find the operator at which a runtime crashed: a function of ours decides, and no file here crashes anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.contracts.events import ActionEvents, silent
from pipeline.errors import NativeEndError
from stages.formats.apart.process import MEMORY_VARIABLE, end_child
from stages.formats.tflite.convert import convert_tflite
from stages.formats.tflite.cuts import Cut
from stages.formats.tflite.ending_operator import first_that_ends, with_operator
from stages.keras.normal_form import MODEL_FILE, encode_model

EVENTS = ActionEvents("export:tflite/int8", silent)
ERROR = NativeEndError("LiteRT gave up", where="export:tflite/int8", hint="take another")


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    end_child()
    yield
    end_child()


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_the_first_is_found_in_few_tries(count: int) -> None:
    found = [Cut("ADD", str(place), b"") for place in range(count)]
    for first in range(count):
        tries = []

        def ends(cut: Cut, first: int = first, tries: list[str] = tries) -> bool:
            tries.append(cut.name)
            return int(cut.name) >= first

        assert first_that_ends(found, ends) == first
        assert len(tries) <= 8
    assert first_that_ends(found, lambda cut: False) is None
    assert first_that_ends([], lambda cut: True) is None


def test_a_file_that_runs_after_all_has_no_such_operator(tiny_xception: Any, tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(convert_tflite(tiny_xception, "float32"))
    stored = tmp_path / MODEL_FILE  # nobody reads it
    assert with_operator(ERROR, tmp_path / "model.tflite", stored, EVENTS) is ERROR
    assert with_operator(ERROR, tmp_path / "none", stored, EVENTS) is ERROR


def test_the_operator_is_told_by_kind_and_layer(
    tiny_xception: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every child is ended here, the first operator is the one."""
    (tmp_path / "model.tflite").write_bytes(convert_tflite(tiny_xception, "float32"))
    monkeypatch.setenv(MEMORY_VARIABLE, "1")
    (tmp_path / MODEL_FILE).write_bytes(encode_model(tiny_xception))
    error = with_operator(ERROR, tmp_path / "model.tflite", tmp_path / MODEL_FILE, EVENTS)
    assert error.what.startswith("LiteRT gave up, at operator 1 of ")
    assert error.what.partition(": ")[2].startswith("CONV_2D of layers 'stem', 'stem_bn' and 'stem_relu'")
    assert (error.where, error.hint) == (ERROR.where, ERROR.hint)
