"""Keep the layers in float that int8 makes slower on this machine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import Recipe, run
from pipeline.contracts.events import Advanced, Event, Warned
from pipeline.records.facts import QuantizedFacts
from pipeline.records.schemes import Quantization
from stages.keras.normal_form import encode_model
from stages.keras.tensorflow import import_keras
from stages.quantize.faster import only_timed
from stages.samples.calibration import COST_SAMPLES

RECIPE = """\
name: faster
threads: {threads}
model: model.keras
data: {{source: npz, path: data.npz, calibration: {{from: train, take: 16}}}}
stages:
  - load
  - quantize: {{schemes: [{{fast: {{scheme: int8, faster_on: cpu, calibration: mse, bias_correction: true}}}}]}}
  - export: {{formats: [tflite]}}
"""


@pytest.mark.slow
def test_the_fastest_of_the_files_that_were_tried_is_taken(tmp_path: Path, make_context: Any) -> None:
    keras = import_keras()
    image = keras.Input((24, 24, 1), name="image")
    x = keras.layers.Conv2D(16, 3, activation="relu", name="first")(image)
    x = keras.layers.Conv2D(16, 3, strides=2, activation="relu", name="second")(x)
    model = keras.Model(image, keras.layers.Dense(4, name="head")(keras.layers.GlobalAveragePooling2D()(x)))
    (tmp_path / "model.keras").write_bytes(encode_model(model))
    np.savez(tmp_path / "data.npz", x_train=np.random.default_rng(0).normal(size=(16, 24, 24, 1)).astype(np.float32))
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(threads=make_context(None).threads))
    heard: list[Event] = []
    manifest = run(Recipe.load(tmp_path / "recipe.yaml"), tmp_path / "store", listener=heard.append)
    facts = [output.facts for entry in manifest.stages if entry.axis == "fast" for output in entry.outputs]
    (how,) = [one.quantization for one in facts if isinstance(one, QuantizedFacts)]
    (told,) = [event.message for event in heard if isinstance(event, Warned) and "faster_on" in event.message]
    ratios = {
        name: float(number) for name, number in re.findall(r"([\w, ]+): ([\d.]+)[;)]", told.partition("tried")[2])
    }
    tries = {tuple(name.strip().split(", ")): ratio for name, ratio in ratios.items()}
    assert ("none",) in tries
    assert any("first" in layers for layers in tries)  # a convolution of one channel
    kept = how.keep_float or ("none",)
    taken = next(ratio for layers, ratio in tries.items() if set(layers) == set(kept))
    assert taken <= 1.02 * min(tries.values())
    assert (how.faster_on, how.calibration, how.bias_correction) == (None, "mse", True)
    # What is only timed is made without what changes values alone.
    records = [json.loads(path.read_text()) for path in (tmp_path / "store" / "actions").rglob("*.json")]
    made = [record["outputs"][0]["facts"] for record in records if record["action"]["stage"] == "quantize"]
    timed = [one["quantization"] for one in made if one["quantization"] != how.model_dump(mode="json")]
    assert len(timed) == 1 + len(tries)  # and the file in float32, which costs are relative to
    assert not any(one["calibration"] or one["bias_correction"] for one in timed)
    shown = [event for event in heard if isinstance(event, Advanced) and event.what == "calibration samples"]
    assert {event.total for event in shown if event.action.endswith(">export")} == {COST_SAMPLES}
    assert max(event.total for event in shown if event.action.startswith("export")) > COST_SAMPLES


@pytest.mark.parametrize(
    ("how", "left"),
    [
        ({"calibration": "auto", "bias_correction": True, "rounding": "adaptive"}, {"equalize": True}),
        ({"calibration": "percentile", "percentile": 99.9, "equalize": False}, {"equalize": False}),
        ({"qat": {"epochs": 1}}, {"equalize": False}),  # a network that is trained for int8 is not equalized
        (
            {"granularity": "per_tensor", "activations": "unsigned", "keep_float": ("a",), "keep_int16": ("b",)},
            {
                "granularity": "per_tensor",
                "activations": "unsigned",
                "keep_float": ("a",),
                "keep_int16": ("b",),
                "equalize": True,
            },
        ),
    ],
)
def test_a_file_that_is_only_timed_keeps_what_makes_its_cost(how: dict[str, Any], left: dict[str, Any]) -> None:
    asked = Quantization.model_validate({"scheme": "int8", "faster_on": "cpu", **how})
    assert only_timed(asked) == Quantization.model_validate({"scheme": "int8", **left})
