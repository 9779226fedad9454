"""Compile the int8 file with Vela, and read its estimates."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DeviceError
from pipeline.recipe.recipe import Recipe
from pipeline.running.run import run
from stages.formats.registry import load_exported
from stages.formats.vela.facts import VelaFacts

vela = pytest.mark.skipif(find_spec("ethosu") is None, reason="pip install ethos-u-vela")


@vela
def test_vela_compiles_the_int8_file_with_estimates(
    recipe: Callable[..., Recipe], store: Path, blob: Any, exported: Any
) -> None:
    chosen = {"formats": ["vela"], "vela": {"accelerator": "ethos-u55-256"}}
    manifest = run(recipe(["int8"], chosen.pop("formats"), "verify", **chosen), store)
    artifact = exported(manifest, "vela/int8")
    facts = artifact.facts
    assert isinstance(facts, VelaFacts)
    assert facts.accelerator == "ethos-u55-256"
    assert facts.npu_operators > 0
    assert facts.operators["CUSTOM"] >= 1
    assert manifest.metrics["vela/int8.estimated_cycles"] == facts.estimated_cycles
    assert facts.estimated_cycles is not None
    assert facts.estimated_cycles > 1000
    data = blob(store, artifact.files[0])
    assert b'"converter":"ethos-u-vela"' in data
    with pytest.raises(DeviceError, match="nothing on this machine runs a vela-model"):
        load_exported("vela-model", data)
    assert not [entry for entry in manifest.stages if entry.stage == "verify"]  # left out, and reported
