"""Find the files that are slower than float32 among what a run has measured."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.records.artifacts import FileRef
from pipeline.records.facts import CountFacts, LatencyFacts
from pipeline.records.manifest import Output, StageEntry
from pipeline.records.speed import slower_files
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


def entries(measured: dict[str, Any]) -> list[StageEntry]:
    exports = [
        entry("export", f"tflite/{name}", TFLiteFacts(scheme=scheme, inputs=(), outputs=(), operators={}))
        for name, scheme in SCHEMES.items()
    ]
    benchmarks = [entry("benchmark", f"tflite/{axis}", facts) for axis, facts in measured.items()]
    return [*exports, *benchmarks]


def test_slower_files_are_found_slowest_first_and_the_last_measurement_counts() -> None:
    run = entries(
        {
            "float32@cpu": latency(0.5), "int8@cpu": latency(0.6), "mine@cpu": latency(0.4),
            "float32@pi": counts(80.0), "int8@pi": counts(120.0), "mine@pi": counts(60.0),
        }
    )  # fmt: skip
    found = [(one.axis, one.reference, round(one.ratio, 2)) for one in slower_files(run)]
    assert found == [("tflite/int8@pi", "tflite/float32", 1.5), ("tflite/int8@cpu", "tflite/float32", 1.2)]
    again = counts(100.0).model_copy(update={"losses": ()})
    repeated = [*run, entry("benchmark", "tflite/int8@pi", again)]
    assert [(one.ratio, one.losses) for one in slower_files(repeated) if one.axis == "tflite/int8@pi"] == [(1.25, ())]


@pytest.mark.parametrize(
    "measured",
    [
        {"float32@cpu": latency(0.5, 0.1), "int8@cpu": latency(0.6, 0.1)},  # both within what they vary by
        {"int8@cpu": latency(3.0)},  # against the source alone, which is another model
        {"float32@cpu": latency(0.5), "float16@cpu": latency(3.0)},  # not chosen for speed
        {"float32@pi": counts(80.0), "int8@pi": counts(80.05)},
        {"float32@pi": counts(80.0), "int8@cpu": latency(3.0)},  # another target
    ],
)
def test_nothing_is_found_of_others(measured: dict[str, Any]) -> None:
    assert slower_files(entries(measured)) == []
