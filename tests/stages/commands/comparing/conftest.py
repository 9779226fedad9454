"""Make ONNX files of a known amount of work, and reports of any content."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from stages.commands.comparing.operands import Operand, find_operand
from stages.commands.comparing.result import ComparisonReport, Evidence, MetricResult, PairResult, Side


@pytest.fixture(scope="session")
def make_onnx(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a file of this many sines in a row, and repeats of the last one."""
    from onnx import TensorProto, helper

    def make(steps: int, shape: tuple[Any, ...] = (1, 4096), function: str = "Sin") -> Path:
        names = ["x", *(f"x{step}" for step in range(steps - 1)), "y"]
        graph = helper.make_graph(
            [helper.make_node(function, [a], [b]) for a, b in pairwise(names)],
            "sines",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path = tmp_path_factory.mktemp("onnx") / f"{function.lower()}{steps}.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return make


@pytest.fixture(scope="session")
def onnx_file(make_onnx: Callable[..., Path]) -> Path:
    return make_onnx(4)


@pytest.fixture
def make_report() -> Callable[..., ComparisonReport]:
    """Make a report of one pair from verdicts, one metric each, with every kind of number in it."""

    def make(*verdicts: str, name: str = "tflite/int8", target: str | None = "cpu") -> ComparisonReport:
        rounds = Evidence(rounds=10, extended=False, noise_floor=0.006, ratios=(1.08,) * 9 + (1.5,), apart=(10,))
        metrics = [
            MetricResult(
                metric="latency",
                target=target,
                unit="ms",
                baseline=0.031,
                candidate=0.0336,
                change=0.083,
                interval=(0.071, 0.094),
                tolerance=0.05,
                verdict=verdict,
                evidence=rounds,
            )
            for verdict in verdicts
        ]
        accuracy = MetricResult(
            metric="accuracy", unit="share", baseline=0.884, candidate=0.88, change=0.004, tolerance=0.01, verdict="ok"
        )
        memory = MetricResult(
            metric="memory", target=target, unit="bytes", baseline=1e6, candidate=1e6, change=0.0, evidence=rounds
        )
        side = Side(name=name, digest="sha256:" + "0" * 64, size_bytes=100)
        pair = PairResult(name=name, baseline=side, candidate=side, metrics=(*metrics, accuracy, memory))
        verdict = "regression" if "regression" in verdicts else "inconclusive" if "inconclusive" in verdicts else "ok"
        return ComparisonReport(
            base="3f2a",
            candidate="77ab",
            devices={"cpu": {"cpu_model": "a processor"}},
            pairs=(pair,),
            unpaired=("onnx/int8: only in 3f2a",),
            verdict=verdict,
        )

    return make


def no_store():
    raise AssertionError("files need no store")


def operand_of(*paths: Path) -> Operand:
    models = [find_operand(str(path), no_store).models[0] for path in paths]
    return Operand(str(paths[0]), tuple(models))


@pytest.fixture
def operand():
    """Return the operand of these files."""
    return operand_of
