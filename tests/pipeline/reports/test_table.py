from pipeline.records.artifacts import FileRef
from pipeline.records.facts import EvaluationFacts, KerasFacts, LatencyFacts
from pipeline.records.manifest import GateResult, Output, RunManifest, StageEntry
from pipeline.reports.table import closing, count, counted, gate_line, rows, size, speed, table
from stages.formats.tflite.facts import TFLiteFacts
from stages.prune.facts import PruneFacts

DIGEST = "sha256:" + "0" * 64


def entry(name, stage, axis, facts, size_bytes=0, metrics=None):
    file = FileRef(name="f", digest=DIGEST, size=size_bytes, media_type="x")
    output = Output(kind=facts.kind, digest=DIGEST, files=(file,), facts=facts)
    return StageEntry(
        id=name,
        stage=stage,
        axis=axis,
        key="0",
        status="ran",
        reason="",
        wall_s=0.0,
        outputs=(output,),
        metrics=metrics or {"m": 1.0},
    )


def latency(ratio=0.5, low=0.4, high=0.625):
    return LatencyFacts(
        target="cpu",
        runtime="litert",
        rounds=10,
        samples_per_side=100,
        candidate_p50_ms=1.0,
        candidate_p90_ms=1.5,
        baseline_p50_ms=2.0,
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
    )


MODEL = TFLiteFacts(scheme="int8", inputs=(), outputs=(), operators={})
MANIFEST = RunManifest(
    run_id="abcd1234",
    name="n",
    recipe_digest=DIGEST,
    stages=(
        entry("evaluate:source", "evaluate", None, EvaluationFacts(samples=100, metrics={})),
        entry("baseline:tflite", "export", "tflite/float32", MODEL, 4000),
        entry("export:tflite/int8", "export", "tflite/int8", MODEL, 1000),
        entry("verify:tflite/int8", "verify", "tflite/int8", EvaluationFacts(samples=100, metrics={})),
        entry("benchmark:tflite/int8@cpu", "benchmark", "tflite/int8@cpu", latency()),
    ),
    metrics={"source.accuracy": 0.5, "source.params": 1234.0, "tflite/int8.accuracy": 0.9, "tflite/int8.macs": 2e6},
    gates=(
        GateResult(metric="tflite/int8.accuracy", op="min", limit=0.8, value=0.9, interval=(0.7, 1.0), verdict="pass"),
    ),
    verdict="pass",
)


def test_rows_are_models_then_baselines_then_exports():
    source, baseline, export = rows(MANIFEST)
    assert (source.name, source.quality, source.samples) == ("source", (("accuracy", 0.5),), 100)
    assert source.params == 1234.0
    assert (baseline.quality, export.quality) == ((("accuracy", None),), (("accuracy", 0.9),))
    assert (baseline.name, baseline.size_bytes, baseline.p50_ms) == ("source tflite/float32", 4000, 2.0)
    assert (export.size_bytes, export.p50_ms, export.macs) == (1000, 1.0, 2e6)


def test_a_source_that_took_otherwise_beside_each_file_is_shown_with_its_range():
    other = latency().model_copy(update={"baseline_p50_ms": 1.25})
    again = entry("benchmark:tflite/float32@cpu", "benchmark", "tflite/float32@cpu", other)
    assert "source's" not in table(MANIFEST)
    *_, note = table(MANIFEST.model_copy(update={"stages": (*MANIFEST.stages, again)})).splitlines()
    assert note == ("the source's tflite file took 1.250 to 2.000 ms: each file is compared with it in the same rounds")


def test_notes_of_results_stand_below_the_table_for_cached_ones_too():
    facts = PruneFacts(
        groups=1, frozen_groups=0, channels_before=8, channels_after=1, equivalence_error=0.0, notes=("it is narrow",)
    )
    pruned = entry("prune[2]", "prune", None, facts).model_copy(update={"status": "hit"})
    manifest = MANIFEST.model_copy(update={"stages": (*MANIFEST.stages, pruned)})
    reread = RunManifest.model_validate_json(manifest.model_dump_json())
    assert table(reread).splitlines() == [*table(MANIFEST).splitlines(), "prune[2]: it is narrow"]


def test_copying_is_offered_where_there_is_something_to_copy():
    assert "secateur export abcd1234" in closing(MANIFEST)
    why = {"status": "failed", "reason": "it differs"}
    stages = tuple(one.model_copy(update=why) if one.stage == "verify" else one for one in MANIFEST.stages)
    assert "secateur export" not in closing(MANIFEST.model_copy(update={"stages": stages, "verdict": "failed"}))


def test_the_table_is_aligned_and_says_how_sure_it_is():
    lines = table(MANIFEST).splitlines()
    assert lines[1] == "source                 50.00 ± 9.6   1.2 k                           1.00"
    assert lines[3].endswith("90.00 ± 6.0          2.0 M  1.0 kB  1.000 ms  ×2.00 faster [1.60, 2.50]")


def test_the_end_tells_gates_verdict_and_what_to_do(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: name)
    text = closing(MANIFEST)
    assert "gates  ✔ tflite/int8.accuracy 0.9 [0.7, 1] ≥ 0.8" in text
    assert text.splitlines()[-4:] == [
        "pass",
        "  secateur show abcd1234   tells where everything came from",
        "  secateur show abcd1234 --parity   how near each file is to Keras",
        "  secateur export abcd1234 out/   copies the files",
    ]


def test_slower_is_said_to_be_slower():
    assert speed(latency(1.25, 1.2, 1.3)) == "×1.25 slower [1.20, 1.30]"


def test_numbers_have_units():
    assert [count(n) for n in (None, 12.0, 58_400.0, 9_100_000.0, 2e9)] == ["", "12", "58.4 k", "9.1 M", "2.0 G"]
    assert [size(n) for n in (None, 41_200, 3_000_000)] == ["", "41.2 kB", "3.0 MB"]


def test_a_failed_gate_has_a_mark_of_its_own():
    failed = GateResult(metric="a.b", op="max", limit=1, value=2, interval=None, verdict="fail")
    assert gate_line(failed) == "✘ a.b 2 ≤ 1"


def test_a_gate_on_a_metric_that_was_not_measured_says_so():
    missing = GateResult(metric="a.b", op="max", limit=1, value=None, interval=None, verdict="fail")
    assert gate_line(missing) == "✘ a.b none ≤ 1: the run has no such metric"
    lost = missing.model_copy(update={"verdict": "inconclusive"})
    assert gate_line(lost) == "? a.b none ≤ 1"


def test_the_column_is_the_metric_that_the_recipe_chose():
    metrics = {"source.mae": 0.25, "tflite/int8.mae": 0.5, "tflite/int8.mse": 2.0}
    manifest = MANIFEST.model_copy(update={"metrics": metrics, "chosen_metrics": ("mae",)})
    head, source, _, export = table(manifest).splitlines()
    assert (head.split()[0], source.split()[1], export.split()[1]) == ("mae", "0.25", "0.5")
    assert "2" not in export.split()


def test_a_function_of_the_user_is_a_column_too():
    metrics = {"source.score": 0.25, "tflite/int8.score": 0.5, "tflite/int8.accuracy": 0.75}
    head, source, _, export = table(
        MANIFEST.model_copy(update={"metrics": metrics, "chosen_metrics": ("mine:score",)})
    ).splitlines()
    assert (head.split()[0], source.split()[1], export.split()[1]) == ("score", "0.25", "0.5")


def test_every_number_of_several_outputs_has_its_heading():
    both = {"accuracy[kind]": 0.5, "mae[age]": 12.5}
    metrics = {f"{name}.{metric}": value for name in ("source", "tflite/int8") for metric, value in both.items()}
    metrics |= {"tflite/int8.mse[age]": 99.0}
    chosen = {"age": ("mae",), "kind": ("accuracy",)}
    lines = table(MANIFEST.model_copy(update={"metrics": metrics, "chosen_metrics": chosen})).splitlines()
    assert "mae[age] · accuracy[kind]" in lines[0]
    assert "12.5 · 50.00%" in lines[1]
    assert "12.5 · 50.00%" in lines[3]
    del metrics["source.mae[age]"]
    lines = table(MANIFEST.model_copy(update={"metrics": metrics, "chosen_metrics": chosen})).splitlines()
    assert "– · 50.00%" in lines[1]


def test_regression_shows_its_error_in_the_place_of_accuracy():
    metrics = {"source.mse": 0.123456, "source.params": 10.0, "tflite/int8.mse": 2.0}
    text = table(MANIFEST.model_copy(update={"metrics": metrics}))
    head, source, *_ = text.splitlines()
    assert head.split()[0] == "mse"
    assert source.split()[:2] == ["source", "0.1235"]
    assert "accuracy" not in text


def test_several_outputs_stand_side_by_side():
    outputs = {"accuracy[kind]": 0.5, "mse[level]": 0.01234, "macro_f1[kind]": 0.4, "accuracy_drop[kind]": 0.0}
    metrics = {f"{name}.{metric}": value for name in ("source", "tflite/int8") for metric, value in outputs.items()}
    lines = table(MANIFEST.model_copy(update={"metrics": metrics})).splitlines()
    assert "accuracy[kind] · mse[level]" in lines[0]
    assert "50.00% · 0.01234" in lines[1]
    assert "50.00% · 0.01234" in lines[3]


def test_actions_are_counted_by_stage():
    assert counted(["export:tflite/int8", "export:onnx/int8", "strip"]) == "export ×2 · strip"


def lost(name, stage, axis, status, reason):
    return StageEntry(id=name, stage=stage, axis=axis, key=None, status=status, reason=reason, wall_s=0.0)


FAILURES = (
    lost("quantize:int16", "quantize", "int16", "failed", "no such samples\n  data.yaml:3\n  take more"),
    lost("export:tflite/int16", "export", "tflite/int16", "skipped", "quantize:int16 failed"),
    lost("export:onnx/int8", "export", "onnx/int8", "failed", "the converter ended by signal 11 " * 5),
    lost("verify:onnx/int8", "verify", "onnx/int8", "skipped", "export:onnx/int8 failed"),
    lost("verify:tflite/int8", "verify", "tflite/int8", "failed", "the cosine is 0.5"),
    lost("benchmark:tflite/int8@pi", "benchmark", "tflite/int8@pi", "failed", "no answer"),
)


def test_failures_stand_in_the_rows_of_their_models_beside_what_is_known():
    text = table(MANIFEST.model_copy(update={"stages": (*MANIFEST.stages[:3], *FAILURES), "metrics": {}}))
    lines = text.splitlines()
    assert lines[2] == "quantize:int16         failed  no such samples"
    assert lines[4].split() == ["tflite/int8", "failed", "1.0", "kB"]
    assert lines[5].strip() == "verify: the cosine is 0.5"
    assert lines[6].strip() == "benchmark on pi: no answer"
    assert lines[7].startswith("onnx/int8              failed  export: the converter ended by signal 11")
    assert max(map(len, lines)) == 100
    assert len(lines) == 8  # what was skipped has no separate row


def test_a_model_whose_accuracy_is_known_keeps_it_where_a_benchmark_failed():
    kept = MANIFEST.model_copy(update={"stages": (*MANIFEST.stages[:4], FAILURES[-1])})
    assert table(kept).splitlines()[3].split() == [
        "tflite/int8",
        "90.00",
        "±",
        "6.0",
        "2.0",
        "M",
        "1.0",
        "kB",
        "failed",
    ]


def test_the_end_of_a_failed_run_counts_what_failed_and_was_skipped():
    text = closing(MANIFEST.model_copy(update={"stages": (*MANIFEST.stages, *FAILURES), "verdict": "failed"}))
    assert "FAILED: 1 of 1 quantize, 1 of 4 export, 1 of 3 verify, 1 of 2 benchmark\n" in text
    assert "skipped, since quantize:int16 failed: export\nskipped, since export:onnx/int8 failed: verify\n" in text
    assert "secateur show abcd1234" in text


def test_what_is_left_out_is_told_with_its_reason_below_the_table():
    left_out = {"onnx/int8": "no kernel\n  onnx/int8\n  take float32", "tflite/u8": "TFLite's int8 is signed"}
    entries = (
        lost("export:onnx/int8", "export", "onnx/int8", "skipped", "left out: no kernel").model_copy(
            update={"key": "1"}
        ),
        lost("verify:onnx/int8", "verify", "onnx/int8", "skipped", "export:onnx/int8 is left out"),
    )
    update = {"stages": (*MANIFEST.stages, *entries), "left_out": left_out}
    lines = closing(MANIFEST.model_copy(update=update)).splitlines()
    at = lines.index("left out: onnx/int8: no kernel")
    assert lines[at + 1 : at + 3] == ["left out: tflite/u8: TFLite's int8 is signed", ""]
    assert lines[:at] == table(MANIFEST).splitlines()
    failed = MANIFEST.model_copy(update={**update, "stages": (*update["stages"], FAILURES[4]), "verdict": "failed"})
    assert "since left out" not in closing(failed)
    assert "skipped, since export:onnx/int8 is left out: verify\n" in closing(failed)


def test_a_file_that_is_not_called_as_others_are_says_so_in_the_table():
    stateful = MODEL.model_copy(update={"keeps_state": True})
    manifest = MANIFEST.model_copy(update={"stages": (entry("export:tflite/int8", "export", "tflite/int8", stateful),)})
    assert "keeps a state: reset it before each sample" in table(manifest)
    assert "keeps a state" not in table(MANIFEST)


def test_macs_that_are_a_lower_bound_say_so():
    facts = KerasFacts(
        params=1, macs=2_000_000, macs_unknown=("own (Own: While)",), inputs=(), outputs=(), sparsity=0.0
    )
    metrics = {f"{name}.{metric}": 2e6 for name in ("source", "tflite/int8") for metric in ("macs", "macs_unknown")}
    manifest = MANIFEST.model_copy(
        update={"stages": (entry("load", "load", None, facts), *MANIFEST.stages), "metrics": metrics}
    )
    lines = table(manifest).splitlines()
    assert all("≥ 2.0 M" in lines[place] for place in (1, 3))
    assert lines[-1] == "MACs are at least these: not known of own (Own: While)"


def test_the_size_that_macs_are_counted_at_is_told():
    facts = KerasFacts(params=1, macs=1, macs_size={"image": (96, 64, 3)}, inputs=(), outputs=(), sparsity=0.0)
    manifest = MANIFEST.model_copy(update={"stages": (entry("load", "load", None, facts), *MANIFEST.stages)})
    assert table(manifest).splitlines()[-1] == "MACs are counted at image 96×64×3: the model leaves sizes open"


def test_a_scheme_that_left_the_weights_as_they_were_is_marked_in_the_table():
    little = MODEL.model_copy(update={"weights": {"int8": 1, "float32": 99}})
    manifest = MANIFEST.model_copy(update={"stages": (entry("export:tflite/int8", "export", "tflite/int8", little),)})
    assert "1% of weights in int8" in table(manifest)
    mostly = MODEL.model_copy(update={"weights": {"int8": 99, "float32": 1}})
    manifest = MANIFEST.model_copy(update={"stages": (entry("export:tflite/int8", "export", "tflite/int8", mostly),)})
    assert "of weights" not in table(manifest)


def test_a_source_that_could_not_be_evaluated_is_one_line():
    failed = lost("evaluate:source", "evaluate", None, "failed", "no such file (mine.py:5, in load)")
    text = table(MANIFEST.model_copy(update={"stages": (failed,), "metrics": {}}))
    assert text.splitlines()[1] == "source  failed  evaluate: no such file (mine.py:5, in load)"
