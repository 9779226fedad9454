import pytest

from pipeline.records.artifacts import FileRef, PlainFacts
from pipeline.records.facts import EvaluationFacts, KerasFacts, LatencyFacts, ParityFacts
from pipeline.records.manifest import Output, StageEntry
from pipeline.records.roles import (
    evaluates,
    files_of,
    is_baseline,
    is_yardstick,
    makes_files,
    makes_model,
    measures,
    on_exports,
    proves,
)
from stages.formats.tflite.facts import TFLiteFacts

DIGEST = "sha256:" + "0" * 64
ROLES = (evaluates, makes_files, makes_model, measures, proves)
FILE = TFLiteFacts(scheme="int8", inputs=(), outputs=(), operators={})
MODEL = KerasFacts(params=1, macs=1, inputs=(), outputs=(), sparsity=0.0)
LATENCY = dict.fromkeys(
    ("candidate_p50_ms", "candidate_p90_ms", "baseline_p50_ms", "ratio", "ratio_low", "ratio_high"), 1.0
)
LATENCY = LatencyFacts(target="cpu", runtime="r", rounds=1, samples_per_side=1, **LATENCY)


def entry(stage, axis, *facts, name="x", status="ran"):
    file = FileRef(name="f", digest=DIGEST, size=1, media_type="x")
    outputs = tuple(Output(kind=one.kind, digest=DIGEST, files=(file,), facts=one) for one in facts)
    head = {"id": name, "stage": stage, "axis": axis, "key": "0", "status": status, "reason": "", "wall_s": 0.0}
    return StageEntry(**head, outputs=outputs)


@pytest.mark.parametrize(
    ("stage", "axis", "facts", "role"),
    [
        ("export", "tflite/int8", [FILE], makes_files),
        ("somebody_s", "tflite/int8", [FILE], makes_files),  # what is made counts, not the stage's name
        ("verify", "tflite/int8", [ParityFacts(rows=()), EvaluationFacts(samples=1, metrics={})], proves),
        ("evaluate", None, [EvaluationFacts(samples=1, metrics={})], evaluates),
        ("benchmark", "tflite/int8@cpu", [LATENCY], measures),
        ("prune", None, [MODEL], makes_model),
    ],
)
def test_an_entry_is_about_what_it_made_or_its_stage_could_have_made(stage, axis, facts, role):
    for one in (entry(stage, axis, *facts), entry(stage, axis, status="failed")):
        if stage == "somebody_s" and not one.outputs:
            assert not any(found(one) for found in ROLES)  # it is not installed, and made nothing
        else:
            assert [found for found in ROLES if found(one)] == [role]


def test_files_that_nothing_installed_reads_count_where_they_stand_for_a_format_and_a_scheme():
    plain = PlainFacts(kind="coreml-model")
    assert files_of(entry("export", "coreml/int8", plain))[0].facts is plain
    assert not files_of(entry("count", None, plain))


def test_implied_entries_are_told_by_their_ids():
    assert [is_baseline(entry("export", "a/b", name=name)) for name in ("baseline", "baseline:a", "base")] == [1, 1, 0]
    yardsticks = ("control", "control[2]", "narrow[1]", "narrow")
    assert all(is_yardstick(entry("finetune", None, name=name)) for name in yardsticks)
    assert not is_yardstick(entry("finetune", None, name="finetune"))
    assert [on_exports(entry("x", axis)) for axis in ("tflite/int8", "tflite/int8@cpu", "int8", None)] == [1, 1, 0, 0]
