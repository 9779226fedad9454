"""Check that a stage's function in the child sees what it would see here, and makes the same bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.contracts.events import ActionEvents
from pipeline.records.schemes import Scheme
from stages.formats.apart.context import run_apart, run_here, told
from stages.formats.apart.main import Speaker
from stages.formats.apart.process import end_child

TOYS = """
import os

def look(context):
    context.events.advanced(1, 2, "looks")
    context.events.warned("seen")
    file = context.inputs["model"].files[0]
    (context.work_dir / "made").write_bytes(context.read("model", file.name).read_bytes()[:4])
    seen = [context.config.model_dump(mode="json"), context.axis, context.seed, context.threads]
    return [os.getpid(), file.digest, *seen, context.inputs["model"].facts.params]
"""


class Here(Speaker):
    """Tell the listener of this process what a child would say to its parent."""

    def __init__(self, events: ActionEvents) -> None:
        super().__init__(stream=-1)
        self.advanced = events.advanced  # type: ignore[method-assign]
        self.warned = events.warned  # type: ignore[method-assign]


@pytest.fixture
def _toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "context_toys.py").write_text(TOYS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    end_child()


@pytest.mark.usefixtures("_toys")
def test_the_child_has_settings_inputs_and_files_and_is_heard(exporting: Callable[..., Any], tmp_path: Path) -> None:
    context = exporting("onnx", "int8")
    pid, *found = run_apart(context, "context_toys:look", tmp_path, "looking")
    artifact = context.inputs["model"]
    settings = json.loads(context.config.model_dump_json())
    assert found == [artifact.files[0].digest, settings, "onnx/int8", 0, context.threads, artifact.facts.params]
    assert pid != os.getpid()
    assert (tmp_path / "made").read_bytes() == b"PK\x03\x04"  # a zip archive, as stored models are
    assert (context.progress, context.warnings) == ([(1, 2)], ["seen"])


@pytest.mark.parametrize(
    ("target_format", "scheme"), [("tflite", "int8"), ("tflite", "float32"), ("onnx", "int8"), ("onnx", "float32")]
)
def test_conversions_give_the_bytes_that_they_give_in_this_process(
    exporting: Callable[..., Any], tmp_path: Path, target_format: str, scheme: Scheme
) -> None:
    context = exporting(target_format, scheme)
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    function = f"stages.formats.{target_format}.export:convert_here"
    answer = run_apart(context, function, there, "converting")
    told_there = context.progress
    context.heard.clear()
    assert run_here(Here(context.events), **told(context, function, here)) == answer
    assert told_there == context.progress
    assert bool(told_there) == (scheme == "int8")  # calibration is heard, sample by sample
    assert (here / f"model.{target_format}").read_bytes() == (there / f"model.{target_format}").read_bytes()
