"""Name what int8 makes slower, in files of which it is known: on an emulated core, and in ONNX Runtime here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import RecipeError
from stages.devices.advice import LEAST_SHARE, RULES, advise
from stages.devices.profile import Origin
from stages.devices.target import find_target
from stages.formats.onnx.convert import convert_onnx
from stages.formats.tflite import convert
from stages.formats.tflite.convert import convert_tflite
from stages.keras.tensorflow import import_keras


def network() -> tuple[Any, Any]:
    """Return a network of one input channel, in which a ReLU and a shortcut read a sum, and samples."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    layers = keras.layers
    image = keras.Input((20, 20, 1), name="image")
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="first")(image)
    x = layers.Add(name="sum")([x, layers.Conv2D(16, 3, padding="same", name="inner")(x)])
    x = layers.Add(name="last")([x, layers.Conv2D(16, 3, padding="same", name="outer")(layers.ReLU(name="relu")(x))])
    samples = np.random.default_rng(0).normal(size=(16, 20, 20, 1)).astype(np.float32)
    return keras.Model(image, x), samples


@pytest.mark.slow
def test_operators_are_named_with_the_reason_on_the_core_where_they_are_slower(
    cortex_a72: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, samples = network()
    for rewrite in ("without_lone_relus", "with_more_channels"):
        monkeypatch.setattr(convert, rewrite, lambda data: data)  # as other converters make it
    path = tmp_path / "model.tflite"
    path.write_bytes(convert_tflite(model, "int8", calibration=samples))
    found = advise(find_target("cortex-a72"), path, "model")
    assert found.unit == "instructions"
    by_layer = {layer: advice for advice in found.advice for layer in advice.layers}
    assert by_layer["first"].rule == "few_channels"
    assert by_layer["relu"].rule == "lone_activation"
    assert not {"inner", "outer"} & by_layer.keys()
    assert "keep_float: [first]" in by_layer["first"].helps
    assert by_layer["relu"].cost > 10 * by_layer["relu"].float_cost
    assert all(advice.lost >= LEAST_SHARE * found.total for advice in found.advice)
    assert [*found.advice] == sorted(found.advice, key=lambda one: -one.lost)


def test_what_onnx_runtime_leaves_between_conversions_is_named(tmp_path: Path) -> None:
    """With signed activations it leaves additions in float (docs/design/schemes.md)."""
    from pipeline.records.schemes import Quantization

    model, samples = network()
    path, origin = tmp_path / "model.onnx", Origin(model, {"image": samples[:1]})
    path.write_bytes(convert_onnx(model, Quantization(scheme="int8", activations="signed"), calibration=samples))
    found = advise(find_target("cpu"), path, "model", origin)
    assert {advice.rule for advice in found.advice} == {"left_in_float"}
    assert any("Add stands in float32" in advice.why for advice in found.advice)
    assert 0 < sum(advice.cost for advice in found.advice) < found.total


def test_the_last_rule_takes_what_no_other_explains() -> None:
    assert not RULES[-1].kinds
    assert RULES[-1].channels is None
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_a_float_file_gets_no_advice(tflite_file: Path) -> None:
    found = advise(find_target("cpu"), tflite_file, "model")
    assert (found.advice, found.total) == ((), 0)


def test_a_format_whose_operators_can_t_be_taken_out_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_text('<?xml version="1.0"?><net name="n" version="11"><layers/><edges/></net>')
    with pytest.raises(RecipeError, match="no advice is known for openvino files"):
        advise(find_target("cpu"), path, "model")
