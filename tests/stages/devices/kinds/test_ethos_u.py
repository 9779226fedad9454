"""Test estimates for an Ethos-U, if its compiler is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import DeviceError
from stages.devices.target import count, find_target

vela = pytest.mark.skipif(find_spec("ethosu") is None, reason="pip install ethos-u-vela")


@vela
def test_a_float_model_runs_on_no_npu_and_that_is_said(tflite_file: Path) -> None:
    found = count("ethos-u55-128", tflite_file, "model")
    assert found.estimated
    assert found.metrics.pop("estimated_cpu_operators") == len(found.left_out) > 0
    assert found.metrics == {"estimated_npu_share": 0}  # and no 0 cycles, which any gate would pass
    assert found.main is None
    assert found.notes


@vela
def test_an_int8_model_gets_an_estimate_that_grows_with_its_work(tmp_path: Path) -> None:
    from stages.formats.tflite.convert import convert_tflite
    from stages.keras.tensorflow import import_keras

    keras, cycles = import_keras(), []
    for filters in (16, 64):
        image = keras.Input((32, 32, 3), name="image")
        x = keras.layers.Conv2D(filters, 3, activation="relu", name="conv")(image)
        model = keras.Model(image, keras.layers.Conv2D(filters, 3, name="last")(x), name="tiny")
        (tmp_path / "int8").write_bytes(convert_tflite(model, "int8", "int8", np.ones((4, 32, 32, 3), np.float32)))
        found = count("ethos-u55-128", tmp_path / "int8", "model")
        assert found.main == "estimated_cycles"
        assert found.metrics["estimated_npu_share"] == 1
        assert found.metrics["estimated_sram_bytes"] >= 30 * 30 * filters
        cycles.append(found.metrics["estimated_cycles"])
    assert cycles[1] > 2 * cycles[0] > 0


@pytest.fixture(scope="module")
def averaging(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Make int8 files of a mean over this many positions: over 4,096 an Ethos-U55 leaves it to the CPU."""
    from stages.formats.tflite.convert import convert_tflite
    from stages.keras.tensorflow import import_keras

    keras, folder = import_keras(), tmp_path_factory.mktemp("means")
    for positions in (4096, 4160):
        signal = keras.Input((positions, 1), name="signal")
        x = keras.layers.Conv1D(8, 3, padding="same", activation="relu", name="conv")(signal)
        x = keras.layers.GlobalAveragePooling1D(name="pool")(x)
        samples = np.random.default_rng(0).standard_normal((4, positions, 1)).astype(np.float32)
        model = keras.Model(signal, keras.layers.Dense(3, name="head")(x), name="mean")
        (folder / f"{positions}.tflite").write_bytes(convert_tflite(model, "int8", "int8", samples))
    return {positions: folder / f"{positions}.tflite" for positions in (4096, 4160)}


@vela
def test_work_that_leaves_the_npu_is_told_with_the_reason(averaging: dict[int, Path]) -> None:
    all_on_it, without_mean = (count("ethos-u55-128", file, "model") for file in averaging.values())
    assert without_mean.metrics["estimated_cycles"] < all_on_it.metrics["estimated_cycles"] / 2
    assert (all_on_it.left_out, all_on_it.notes) == ((), ())
    assert without_mean.left_out == ("MEAN",)
    assert without_mean.metrics["estimated_cpu_operators"] == 1
    assert without_mean.notes[0] == "on the CPU, and in no estimate: 1 MEAN"
    assert "pool/Mean': Reduced axis is too large" in without_mean.notes[1]


@vela
@pytest.mark.parametrize(("base", "other", "verdict"), [(4096, 4160, "regression"), (4160, 4096, "ok")])
def test_estimates_of_other_placements_are_not_compared(
    averaging: dict[int, Path], base: int, other: int, verdict: str
) -> None:
    from stages.commands.comparing.engine import Request, compare
    from stages.commands.comparing.forms import text_of
    from stages.commands.comparing.operands import find_operand
    from stages.commands.comparing.tolerances import Tolerances
    from stages.devices.target import Sampling

    def request(metrics: frozenset[Any] | None = None) -> Request:
        return Request([find_target("ethos-u55-128")], Sampling(), 10, Tolerances(), metrics)

    sides = [find_operand(str(averaging[positions]), lambda: None) for positions in (base, other)]
    report = compare(*sides, request())
    found = {metric.metric: metric.verdict for pair in report.pairs for metric in pair.metrics}
    assert found == {"npu": verdict, "size": "ok"}
    assert report.verdict == verdict
    assert "Reduced axis is too large" in text_of(report)
    if verdict == "regression":
        (placed,) = (metric for metric in report.pairs[0].metrics if metric.metric == "npu")
        assert str(placed.reason).startswith("MEAN left the accelerator; MEAN ")
        assert "Reduced axis is too large" in str(placed.reason)
    with pytest.raises(DeviceError, match="there is no cycles") as caught:
        compare(*sides, request(frozenset({"cycles"})))
    assert "each side's leave out other operators" in str(caught.value.hint)


@vela
def test_a_ratio_is_of_estimates_of_one_placement(averaging: dict[int, Path]) -> None:
    from stages.benchmark.counted import metrics_of

    declared = find_target("ethos-u55-128").metrics
    all_on_it, without_mean = (count("ethos-u55-128", file, "model") for file in averaging.values())
    assert metrics_of(without_mean, without_mean, 1, declared)["estimated_cycles_ratio"] == 1
    assert "estimated_cycles_ratio" not in metrics_of(without_mean, all_on_it, 1, declared)
