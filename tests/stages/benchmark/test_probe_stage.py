"""Run the probe stage on this machine, and check what it keeps of a killed run."""

import json

import pytest

from pipeline.errors import DeviceError, PostconditionError
from pipeline.store.seals import sealed
from stages.benchmark import probe_stage
from stages.benchmark.probe_stage import ProbeConfig, ProbeStage, spread_of
from stages.formats.probe import COST_FILE, CostTable, Probe

WIDE = Probe(kind="conv", inputs=32, outputs=256, height=14, width=14, kernel=(3, 3))  # 32 times the work of `NARROW`
NARROW = Probe(kind="conv", inputs=32, outputs=8, height=14, width=14, kernel=(3, 3))
stage = ProbeStage()


@pytest.fixture
def asked(make_context):
    def make(target="cpu", target_format="tflite"):
        return make_context(ProbeConfig(target=target, format=target_format, scheme="float32", probes=(NARROW, WIDE)))

    return make


@pytest.mark.parametrize("target_format", ["tflite", "onnx"])
def test_a_wider_layer_costs_more(asked, target_format):
    context = asked(target_format=target_format)
    result = stage.run(context)
    stage.ensures(context, result)
    artifact = result.outputs[0]
    table = CostTable.model_validate_json(
        (context.folder / artifact.file(COST_FILE).digest.removeprefix("sha256:")).read_bytes()
    )
    assert [entry.probe for entry in table.costs] == [NARROW, WIDE]
    narrow, wide = (entry.cost for entry in table.costs)
    assert wide > 2 * narrow > 0
    assert (table.unit, table.target, artifact.kind) == ("nanoseconds", "cpu", "cost-table")
    assert artifact.facts.probes == result.metrics["probes"] == 2


def test_a_killed_run_goes_on_after_its_last_part(asked, monkeypatch):
    context = asked()
    monkeypatch.setattr(probe_stage, "PART", 1)
    first = stage.run(context)
    assert not first.resumed
    kept = sorted(context.work_dir.glob("part-*.json"))
    assert len(kept) == 2 * probe_stage.PROCESSES["nanoseconds"]
    for path in kept:
        path.write_bytes(sealed(json.dumps({"runtime": "litert x", "costs": [7.0]}, indent=1).encode()))
    kept[0].write_text("{")  # truncated: measured again
    kept[1].write_bytes(kept[1].read_bytes().replace(b"7.0", b"9.0"))  # and so is one with another number
    again = stage.run(context)
    assert again.resumed
    assert again.metrics["spread"] == 0.0  # of the marked parts


def test_a_target_that_has_no_probes_is_refused(asked):
    with pytest.raises(DeviceError, match="can't go through small probes"):
        stage.run(asked(target="tflm"))


def test_a_table_with_holes_is_refused(asked):
    context = asked()
    result = stage.run(context)
    short = result.outputs[0].model_copy(update={"facts": result.outputs[0].facts.model_copy(update={"probes": 1})})
    with pytest.raises(PostconditionError, match="not whole"):
        stage.ensures(context, type(result)((short,)))


def test_the_spread_leaves_one_disturbed_process_out():
    rounds = [[100.0, 10.0], [101.0, 10.1], [102.0, 10.2], [103.0, 10.3], [900.0, 90.0]]
    assert spread_of(rounds) == pytest.approx(2 / 102)
    assert spread_of([[5.0, 6.0]]) == 0.0
