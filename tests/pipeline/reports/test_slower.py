"""Say which files are slower than float32, from what a run has measured."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.records.artifacts import FileRef
from pipeline.records.facts import CountFacts, LatencyFacts, OperatorLoss
from pipeline.records.manifest import Output, RunManifest, StageEntry
from pipeline.reports.slower import slower_than_float
from pipeline.reports.table import table
from stages.formats.tflite.facts import TFLiteFacts

DIGEST = "sha256:" + "0" * 64
SCHEMES = {"float32": "float32", "int8": "int8", "mine": "int8", "float16": "float16"}


def entry(stage: str, axis: str, facts: Any) -> StageEntry:
    file = FileRef(name="f", digest=DIGEST, size=1000, media_type="x")
    output = Output(kind=facts.kind, digest=DIGEST, files=(file,), facts=facts)
    return StageEntry(
        id=f"{stage}:{axis}", stage=stage, axis=axis, key="0", status="ran", reason="", wall_s=0.0, outputs=(output,)
    )


def latency(ratio: float, width: float = 0.02) -> LatencyFacts:
    return LatencyFacts(
        target="cpu", runtime="litert", rounds=10, samples_per_side=100, candidate_p50_ms=ratio,
        candidate_p90_ms=ratio, baseline_p50_ms=1.0, ratio=ratio, ratio_low=ratio - width, ratio_high=ratio + width,
    )  # fmt: skip


def counts(instructions: float) -> CountFacts:
    main = "instructions"
    return CountFacts(
        target="pi", runtime="litert", estimated=False, main=main, candidate={main: instructions},
        baseline={main: 100.0}, spread=0.001,
    )  # fmt: skip


def manifest(measured: dict[str, Any]) -> RunManifest:
    exports = [
        entry("export", f"tflite/{name}", TFLiteFacts(scheme=scheme, inputs=(), outputs=(), operators={}))
        for name, scheme in SCHEMES.items()
    ]
    benchmarks = [entry("benchmark", f"tflite/{axis}", facts) for axis, facts in measured.items()]
    return RunManifest(
        run_id="abcd1234", name="n", recipe_digest=DIGEST, stages=(*exports, *benchmarks), metrics={}, gates=(),
        verdict="pass",
    )  # fmt: skip


def test_each_slower_pair_is_named_with_the_command_slowest_first_and_above_the_table() -> None:
    run = manifest(
        {
            "float32@cpu": latency(0.5), "int8@cpu": latency(0.6), "mine@cpu": latency(0.4),
            "float32@pi": counts(80.0), "int8@pi": counts(120.0), "mine@pi": counts(60.0),
        }
    )  # fmt: skip
    notes = slower_than_float(run)
    assert [note.partition("\n")[0] for note in notes] == [
        "slower than float32: tflite/int8 on pi, ×1.50 of tflite/float32",
        "slower than float32: tflite/int8 on cpu, ×1.20 of tflite/float32",
    ]
    assert notes[0].endswith("\n  why: secateur profile abcd1234:tflite/int8 --target pi --advise")
    assert table(run).startswith("\n".join(notes))


@pytest.mark.parametrize(("number", "ending"), [(2, "why"), (4, "1 more operator"), (5, "2 more operators")])
def test_the_operators_that_cost_most_and_what_helps_are_named(number: int, ending: str) -> None:
    losses = tuple(
        OperatorLoss(
            kind="CONV_2D", layers=(f"conv{place}", "relu"), cost=30.0, float_cost=10.0 + place, helps=f"try {place}"
        )
        for place in range(number)
    )  # fmt: skip
    facts = counts(120.0).model_copy(update={"losses": losses})
    (note,) = slower_than_float(manifest({"float32@pi": counts(80.0), "int8@pi": facts}))
    _, *lines, helps, command = note.splitlines()
    named = ["  CONV_2D of conv0 + relu costs ×3.00 of float32", "  CONV_2D of conv1 + relu costs ×2.73 of float32"]
    assert lines == [*named, "  CONV_2D of conv2 + relu costs ×2.50 of float32"][:number]
    assert helps == "  helps: try 0"
    assert command == f"  {ending}: secateur profile abcd1234:tflite/int8 --target pi --advise"


def test_that_no_operator_stands_out_is_said() -> None:
    facts = counts(120.0).model_copy(update={"losses": ()})
    (note,) = slower_than_float(manifest({"float32@pi": counts(80.0), "int8@pi": facts}))
    assert "no single operator" in note
