"""Climb the ladder on a network whose int8 file is useless: one channel of a layer is a thousand times the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import Recipe, run
from pipeline.contracts.events import Event, Warned
from pipeline.errors import PostconditionError
from pipeline.records.facts import QuantizedFacts
from pipeline.store import Store
from stages.keras.normal_form import encode_model
from stages.keras.tensorflow import import_keras
from stages.quantize.ladder_facts import LadderFacts

RECIPE = """\
name: ladder
threads: {threads}
model: model.keras
data: {{source: npz, path: data.npz, calibration: {{from: train, take: 64}},
  validation: val, test: test}}
stages:
  - load
  - quantize: {{ladder: {rungs}, max_accuracy_drop: {bound}, ladder_rounds: 1}}
  - export: {{formats: [tflite]}}
  - verify: {{max_accuracy_drop: {bound}, tolerances: {{int8: {{min_cosine: null}}}}}}  # whichever rung is faster here
"""


@pytest.fixture
def climbing(tmp_path: Path, lopsided: Any, make_context: Callable[..., Any]) -> Callable[..., Any]:
    """Run a ladder on the network, whose own classes are the labels: return the entry, the manifest, the messages."""
    x = np.random.default_rng(6).standard_normal((400, 12)).astype(np.float32)
    y = np.asarray(lopsided(x, training=False)).argmax(1)
    parts = {"train": slice(0, 100), "val": slice(100, 250), "test": slice(250, 400)}
    arrays = {f"{which}_{name}": values[at] for which, values in (("x", x), ("y", y)) for name, at in parts.items()}
    np.savez(tmp_path / "data.npz", **arrays)
    threads = make_context(None).threads

    def climb(rungs: list[str], bound: float, model: Any = lopsided) -> Any:
        (tmp_path / "model.keras").write_bytes(encode_model(model))
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(RECIPE.format(rungs=json.dumps(rungs), bound=bound, threads=threads))
        heard: list[Event] = []
        manifest = run(Recipe.load(recipe), tmp_path / "store", listener=heard.append)
        warned = [event.message for event in heard if isinstance(event, Warned) and event.message.startswith("ladder")]
        return next(entry for entry in manifest.stages if entry.stage == "quantize"), manifest, warned

    return climb


def report_of(entry: Any) -> LadderFacts:
    return next(output.facts for output in entry.outputs if isinstance(output.facts, LadderFacts))


def test_the_worst_layers_stay_in_float_until_the_bound_holds(climbing: Callable[..., Any], tmp_path: Path) -> None:
    entry, manifest, warned = climbing(["int8", "selective"], 0.04)
    report = report_of(entry)
    assert [one.name for one in report.tries] == ["int8", "selective"]
    assert [one.kept_float for one in report.tries] == [(), ("head", "wide")]
    assert report.tries[0].accuracy_drop > 0.2
    assert report.tries[-1].accuracy_drop <= 0.04
    assert report.chosen == "selective"
    assert report.tries[0].latency_ratio is not None
    assert report.tries[-1].latency_ratio is not None
    quantized = next(output.facts for output in entry.outputs if isinstance(output.facts, QuantizedFacts))
    assert quantized.quantization.keep_float == ("wide", "head")
    assert manifest.metrics["tflite/ladder.accuracy"] >= 0.96
    assert "selective with head, wide in float loses 0.0" in warned[0]
    file = next(f for output in entry.outputs for f in output.files if f.name == "layer-errors.json")
    errors = json.loads(Store(tmp_path / "store").blobs.path(file.digest).read_bytes())
    assert errors[0]["layer"] == "wide"
    assert errors[0]["readers"] == ["head"]
    assert errors[0]["noise"] > 0.5


def test_a_climb_uses_what_an_earlier_one_measured(climbing: Callable[..., Any]) -> None:
    first, _, _ = climbing(["int8", "float16"], 0.01)
    assert report_of(first).chosen == "float16"
    second, _, warned = climbing(["int8", "float16"], 1.0)
    assert second.status == "ran"
    assert set(second.children) <= set(first.children)
    (only,) = report_of(second).tries  # the fastest holds such a bound
    assert only in report_of(first).tries
    assert len(warned) == 1


def test_a_rung_that_the_model_can_t_be_made_into_is_left_out(climbing: Callable[..., Any]) -> None:
    layers = import_keras().layers
    x = layers.Input((12,), name="x")
    model = import_keras().Model(x, layers.Dense(4, activation="softmax")(layers.LayerNormalization(name="norm")(x)))
    entry, _, warned = climbing(["int16x8", "float16"], 1.0, model)
    report = report_of(entry)
    assert (report.chosen, [one.name for one in report.tries]) == ("float16", ["float16"])
    assert warned[0].startswith("ladder: without int16x8: LayerNormalization can't be made in int16x8 (norm)")


def test_where_no_rung_is_good_enough_all_that_was_tried_is_told(climbing: Callable[..., Any]) -> None:
    with pytest.raises(PostconditionError, match=r"no rung of the ladder loses at most 0.01 of accuracy: int8 0\.\d+"):
        climbing(["int8"], 0.01)
