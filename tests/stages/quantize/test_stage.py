"""Test the quantize stage: the same model file, its scheme, and calibration samples if they are needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import Recipe, run
from pipeline.contracts.events import Advanced, Event, Warned
from pipeline.data import Preprocess
from pipeline.errors import DataError, PreconditionError
from pipeline.records.facts import CalibrationFacts, QuantizedFacts
from pipeline.records.schemes import Quantization
from stages.keras.normal_form import encode_model
from stages.keras.tensorflow import import_keras
from stages.quantize.config import QuantizeConfig
from stages.quantize.stage import QuantizeStage
from stages.samples.calibration import decode_samples

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

STAGE = QuantizeStage()
LABELS = np.zeros(64, np.int64)


@pytest.fixture
def quantizing(
    make_context: Callable[..., Any], make_split: Callable[..., Any], tiny_xception: Any
) -> Callable[..., Any]:
    def make(scheme: str, x: Any = None, preprocess: Preprocess | None = None, **settings: Any) -> Any:
        of_the_scheme = settings.pop("settings", {})
        context = make_context(QuantizeConfig(schemes=({scheme: of_the_scheme},), **settings))
        context.inputs = {"model": context.write_model(tiny_xception)}
        if x is not None:
            context.splits = {"calibration": make_split("calibration", x, LABELS[: len(x)], preprocess)}
        return context

    return make


def test_calibration_data_is_read_for_int8_only() -> None:
    assert STAGE.splits(QuantizeConfig(schemes=("float32", "int8"))) == ("calibration",)
    assert STAGE.splits(QuantizeConfig(schemes=("float32", "float16", "dynamic"))) == ()


@pytest.mark.parametrize("scheme", ["float32", "float16", "dynamic"])
def test_without_calibration_the_artifact_is_the_model_and_its_scheme(
    quantizing: Callable[..., Any], scheme: str
) -> None:
    context = quantizing(scheme, io="int8")
    STAGE.requires(context.config, context.inputs)
    (quantized,) = STAGE.run(context).outputs
    model = context.inputs["model"]
    assert quantized.files == model.files
    assert quantized.facts == QuantizedFacts(
        quantization=Quantization(scheme=scheme),
        io="float32",  # the setting is for int8 files
        calibration=None,
        params=model.facts.params,
        macs=model.facts.macs,
        model_digest=model.digest,
    )


def test_int8_carries_the_preprocessed_samples(quantizing: Callable[..., Any]) -> None:
    stored = np.random.default_rng(1).integers(0, 256, (40, 12, 12, 2), dtype=np.uint8)
    context = quantizing("int8", stored, Preprocess(scale=1 / 127.5, offset=-1.0), io="int8")
    STAGE.requires(context.config, context.inputs)
    quantized, calibration = STAGE.run(context).outputs
    assert quantized.facts.io == "int8"
    assert quantized.facts.calibration == calibration.digest
    assert calibration.facts == CalibrationFacts(samples=40)
    assert [file.name for file in quantized.files] == ["model.keras", "calibration.npy"]
    assert quantized.files[1:] == calibration.files
    context.inputs = {"model": quantized}
    samples = decode_samples(context.read("model", "calibration.npy"))
    np.testing.assert_allclose(samples, stored / 127.5 - 1, atol=1e-6)
    assert samples.dtype == np.float32
    assert context.progress[-1] == (40, 40)
    assert context.warnings == []


def test_int16x8_has_16_bit_inputs_where_int8_has_8(quantizing: Callable[..., Any], tiny_images: Any) -> None:
    context = quantizing("int16x8", tiny_images, io="int8")
    quantized, calibration = STAGE.run(context).outputs
    assert quantized.facts.io == "int16"
    assert quantized.facts.calibration == calibration.digest


def test_layers_to_keep_in_float_are_resolved_and_must_exist(quantizing: Callable[..., Any], tiny_images: Any) -> None:
    context = quantizing("int8", tiny_images, settings={"keep_float": ("head", "s*_bn")})
    quantized = STAGE.run(context).outputs[0]
    assert quantized.facts.quantization.keep_float == ("stem_bn", "separable_bn", "head")
    with pytest.raises(PreconditionError, match='no layer matches "haed"') as caught:
        STAGE.run(quantizing("dynamic", settings={"keep_float": ("haed",)}))
    assert "head" in caught.value.hint


def test_a_layer_that_gives_infinity_on_calibration_samples_is_named(
    make_context: Callable[..., Any], make_split: Callable[..., Any]
) -> None:
    """Later outputs are finite again: only the range of the layer itself shows it."""
    keras = import_keras()
    inputs = keras.Input((4,), name="x")
    steep = keras.layers.Dense(4, activation="exponential", use_bias=False, name="steep")
    bounded = keras.layers.Activation("tanh", name="bounded")(steep(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, name="y")(bounded))
    steep.set_weights([np.eye(4, dtype=np.float32)])
    context = make_context(QuantizeConfig(schemes=("int8",)))
    context.inputs = {"model": context.write_model(model)}
    x = np.random.default_rng(0).standard_normal((70, 4)).astype(np.float32)
    context.splits = {"calibration": make_split("calibration", x, LABELS[:1].repeat(70))}
    STAGE.run(context)
    assert context.progress[-1] == (70, 70)
    x[50, 1] = 1000.0
    context.splits = {"calibration": make_split("calibration", x, LABELS[:1].repeat(70))}
    with pytest.raises(PreconditionError, match="layer 'steep' gives NaN or infinity on calibration samples 32 to 63"):
        STAGE.run(context)


def test_layers_that_no_sample_wakes_are_named(
    make_context: Callable[..., Any], make_split: Callable[..., Any]
) -> None:
    keras = import_keras()
    start = keras.Input((4,))
    bias = keras.initializers.Constant(-20.0)
    dead = keras.layers.Dense(4, activation="relu", bias_initializer=bias, name="dead")(start)
    model = keras.Model(start, keras.layers.Add()([dead, keras.layers.Dense(4, name="awake")(start)]))
    context = make_context(QuantizeConfig(schemes=("int8",)))
    context.inputs = {"model": context.write_model(model)}
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    context.splits = {"calibration": make_split("calibration", x, LABELS)}
    STAGE.run(context)
    (said,) = context.warnings
    assert said.startswith("a layer gives nothing but zeros on all calibration samples: 'dead';")
    assert [event.what for event in context.heard if isinstance(event, Advanced)][:1] == ["calibration samples"]
    context.heard.clear()
    STAGE.run(context)  # another scheme of the model: it is told again, and not computed again
    assert context.warnings == [said]
    assert not [event for event in context.heard if isinstance(event, Advanced) and event.what == "calibration samples"]
    x[40] = 100.0  # one sample suffices, and is in a later batch
    context.splits = {"calibration": make_split("calibration", x, LABELS)}
    context.heard.clear()
    model.get_layer("dead").set_weights([np.eye(4), np.full(4, -20.0)])
    context.inputs = {"model": context.write_model(model)}
    STAGE.run(context)
    assert context.warnings == []


def test_doubtful_samples_are_warned_about(quantizing: Callable[..., Any]) -> None:
    context = quantizing("int8", np.ones((3, 12, 12, 2), np.float32))
    STAGE.run(context)
    assert len(context.warnings) == 2


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (np.zeros((0, 12, 12, 2), np.float32), "holds none"),
        (np.zeros((20, 28, 28, 1), np.float32), "samples are 28×28×1, the model's input 'image' takes 12×12×2"),
        (np.full((20, 12, 12, 2), np.nan, np.float32), "sample 0 of the calibration split holds NaN"),
    ],
)
def test_samples_that_cannot_calibrate_are_refused(quantizing: Callable[..., Any], x: Any, says: str) -> None:
    with pytest.raises((PreconditionError, DataError), match=says):
        STAGE.run(quantizing("int8", x))


def test_int8_of_a_model_with_two_inputs_has_a_file_for_each(
    make_context: Callable[..., Any], make_split: Callable[..., Any]
) -> None:
    keras = import_keras()
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    context = make_context(QuantizeConfig(schemes=("int8",)))
    context.inputs = {"model": context.write_model(keras.Model([a, b], keras.layers.Concatenate(name="c")([a, b])))}
    rng = np.random.default_rng(0)
    x = {"b": rng.random((20, 2)), "a": rng.random((20, 3))}
    context.splits = {"calibration": replace(make_split("calibration", None, None, task="unlabelled"), x=x)}
    STAGE.requires(context.config, context.inputs)
    quantized, calibration = STAGE.run(context).outputs
    assert [file.name for file in quantized.files] == ["model.keras", "calibration-0.npy", "calibration-1.npy"]
    assert calibration.facts == CalibrationFacts(samples=20)
    context.inputs = {"model": quantized}
    for name, expected in (("calibration-0.npy", x["a"]), ("calibration-1.npy", x["b"])):
        np.testing.assert_allclose(decode_samples(context.read("model", name)), expected, rtol=1e-6)


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
