"""Provide a recipe of a small chain with a search section."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.recipe.recipe import Recipe

TEXT = """name: small
model: small.keras
data: {source: npz, path: d.npz, test: test}
control: true
stages:
  - load
  - prune: {criterion: obs, scope: loss, macs: 0.5, round_to: 8}
  - reconstruct
  - finetune: {epochs: 2, distill: {weight: 0.8}}
  - strip
  - quantize: {schemes: [float32, int8]}
  - export: {formats: [tflite]}
  - verify
  - benchmark: {targets: [cpu]}
"""


@pytest.fixture
def searched(tmp_path: Path) -> Callable[..., Recipe]:
    """Load the recipe with a line more, and words of it changed."""

    def make(search: str = "", **changed: str) -> Recipe:
        text = TEXT
        for old, new in changed.items():
            assert f"  - {old}" in text
            lines = [new if line.startswith(f"  - {old}") else line for line in text.splitlines()]
            text = "\n".join(line for line in lines if line) + "\n"
        file = tmp_path / "small.yaml"
        file.write_text(text + (f"search: {search}\n" if search else ""))
        return Recipe.load(file)

    return make
