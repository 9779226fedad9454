"""Run a scheme with training before it through the pipeline, compared with the same scheme without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import Recipe, run
from pipeline.contracts.events import Event, Warned
from stages.keras.normal_form import encode_model

RECIPE = """\
name: qat
threads: {threads}
model: model.keras
data: {{source: npz, path: data.npz, calibration: {{from: train, take: 64}}, test: test}}
stages:
  - load
  - quantize:
      schemes:
        - int8
        - int8-trained: {{scheme: int8, qat: {{epochs: 2, batch: 32, learning_rate: 0.001}}}}
  - export: {{formats: [tflite]}}
  - verify
"""


def test_a_scheme_with_training_is_trained_by_an_action_of_its_own(
    tmp_path: Path, tiny_xception: Any, make_context: Callable[..., Any]
) -> None:
    (tmp_path / "model.keras").write_bytes(encode_model(tiny_xception))
    rng = np.random.default_rng(4)
    x = np.kron(rng.uniform(-1, 1, (400, 3, 3, 2)).astype(np.float32), np.ones((1, 4, 4, 1), np.float32))
    y = np.asarray(tiny_xception(x, training=False)).argmax(1)
    np.savez(tmp_path / "data.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(threads=make_context(None).threads))
    heard: list[Event] = []
    manifest = run(Recipe.load(recipe), tmp_path / "store", listener=heard.append)
    entries = {entry.id: entry for entry in manifest.stages}
    assert len(entries["quantize:int8-trained"].children) == 1
    assert {"train", "validation", "calibration"} <= set(entries["quantize:int8-trained"].inputs)
    assert "train" not in entries["quantize:int8"].inputs
    plain, trained = (
        next(o for o in entries[name].outputs if o.kind == "quantized-model")
        for name in ("quantize:int8", "quantize:int8-trained")
    )
    assert plain.files[0].digest != trained.files[0].digest
    assert plain.facts.params == trained.facts.params  # type: ignore[union-attr]  # of the network, without ranges
    assert manifest.metrics["tflite/int8-trained.accuracy"] > 0.8
    assert manifest.verdict == "pass"
    assert not [event for event in heard if isinstance(event, Warned) and "knows no int8" in event.message]
