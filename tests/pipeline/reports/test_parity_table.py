"""Check the matrix of a run, for people and for programs."""

from pipeline.records.artifacts import Artifact
from pipeline.records.facts import EvaluationFacts, ParityFacts, ParityRow
from pipeline.records.manifest import Output, RunManifest, StageEntry
from pipeline.reports.parity_table import parity_document, parity_table


def row(inputs, output="y", difference=0.25):
    return ParityRow(
        inputs=inputs, output=output, samples=100, reference_max_abs=1.0, worst_sample=7, max_abs_diff=difference,
        mean_abs_diff=difference / 2, sqnr_db=20.0, cosine=0.5, top1_agreement=0.9, top5_agreement=None,
    )  # fmt: skip


def manifest(*rows, metrics=(("accuracy", 0.5),)):
    facts = [ParityFacts(rows=rows), EvaluationFacts(samples=100, metrics=dict(metrics))]
    entry = StageEntry(
        id="verify:onnx/int8", stage="verify", axis="onnx/int8", key=None, status="ran", reason="", wall_s=1.0,
        outputs=tuple(Output.of(Artifact(files=(), facts=fact)) for fact in facts),
    )  # fmt: skip
    return RunManifest(
        run_id="abcd", name="demo", recipe_digest="sha256:" + "0" * 64, stages=(entry,), metrics={}, gates=(),
        verdict="pass",
    )  # fmt: skip


def test_a_line_a_set_of_inputs_with_accuracy_on_real_ones():
    lines = parity_table(manifest(row("test"), row("noise", difference=0.0))).splitlines()
    assert " ".join(lines[1].split()) == "onnx/int8 test 100 2.5e-01 1.2e-01 20.0 dB 0.500000 90.0 % 50.00 ± 9.6"
    assert " ".join(lines[2].split()) == "noise 100 0.0e+00 0.0e+00 equal 0.500000 90.0 %"
    assert max(map(len, lines)) <= 100


def test_several_outputs_are_named():
    text = parity_table(manifest(row("test", "a"), row("test", "b")))
    assert "onnx/int8:a" in text
    assert "onnx/int8:b" in text


def test_programs_get_all_of_it():
    first, second = parity_document(manifest(row("test"), row("noise")))["parity"]
    assert (first["export"], first["quality"]) == ("onnx/int8", {"metric": "accuracy", "value": 0.5, "samples": 100})
    assert (second["inputs"], second["quality"], second["worst_sample"]) == ("noise", None, 7)


def test_the_last_column_is_the_metric_of_the_task_for_each_output():
    rows = (row("test", "age"), row("test", "sex"), row("noise", "age"))
    lines = parity_table(manifest(*rows, metrics={"mse[age]": 12.3456, "accuracy[sex]": 0.5})).splitlines()
    assert lines[0].endswith("top-5  mse · accuracy")
    assert [line.split()[-1] for line in lines[1:]] == ["12.35", "9.6", "%"]


def test_the_last_column_is_the_metric_that_the_recipe_chose_in_the_table_s_order():
    metrics = {"mse[age]": 99.0, "mae[age]": 12.5, "accuracy[sex]": 0.5}
    run = manifest(row("test", "age"), row("test", "sex"), metrics=metrics)
    chosen = run.model_copy(update={"chosen_metrics": {"sex": ("accuracy",), "age": ("mae",)}})
    lines = parity_table(chosen).splitlines()
    assert lines[0].endswith("top-5  accuracy · mae")
    assert [line.split()[-1] for line in lines[1:]] == ["12.5", "9.6"]
    assert [one["quality"]["metric"] for one in parity_document(chosen)["parity"]] == ["mae[age]", "accuracy[sex]"]


def test_a_run_without_verification_has_none():
    assert parity_table(manifest()) == ""
