"""Ask a device through sub-steps: what is asked for, and which of their numbers are read."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.errors import PostconditionError
from pipeline.records.artifacts import Artifact, TensorSpec
from pipeline.records.facts import QuantizedFacts
from pipeline.records.schemes import Quantization
from stages.formats.probe import COST_FILE, Cost, CostTable, Probe
from stages.formats.tflite.facts import TFLiteFacts
from stages.prune.config import PruneConfig
from stages.prune.measured.device import MeasuringDevice
from stages.samples.calibration import CALIBRATION_FILE, COST_SAMPLES, decode_samples, write_calibration_set

PROBE = Probe(kind="dense", inputs=4, outputs=8)
TABLE = CostTable(
    target="t", runtime="r", scheme="int8", unit="nanoseconds", spread=0.02, costs=(Cost(probe=PROBE, cost=1.0),)
)
OTHER = PROBE.model_copy(update={"outputs": 16})
COSTS = {
    "int8": (Cost(probe=PROBE, cost=7.0), Cost(probe=OTHER, cost=8.0)),
    "float32": (Cost(probe=PROBE, cost=5.0), Cost(probe=OTHER, cost=9.0)),
}
METRICS = {"latency_ratio": 0.5, "baseline_p50_ms": 3.0, "instruction_ratio": 0.25, "baseline_instructions": 900}


def quantized_facts(calibration):
    how = Quantization(scheme="int8", keep_float=("a",))
    return QuantizedFacts(
        quantization=how, io="float32", calibration=calibration, params=1, macs=1, model_digest="sha256:" + "0" * 64
    )


@pytest.fixture
def asking(make_context, keras):
    """Make a device of settings, its network, and the list of what it asks for."""

    def make(**settings):
        context = make_context(PruneConfig.model_validate(settings))
        asked = []
        tensors = (TensorSpec(name="x", shape=(None, 4), dtype="float32"),)
        facts = TFLiteFacts(scheme="int8", inputs=tensors, outputs=tensors, operators={})

        def call(stage, config, inputs):
            asked.append((stage, config, inputs))
            table = TABLE.model_copy(update={"costs": COSTS[config["scheme"]]}) if stage == "probe" else None
            name, data = (COST_FILE, table.model_dump_json().encode()) if table else ("m", bytes([len(asked)]))
            made = Artifact(files=(context.write(name, data, "x"),), facts=facts)
            if stage == "quantize":
                samples = write_calibration_set(context, [np.full((20, 4), len(asked), np.float32)])
                made = Artifact(files=(*inputs["model"].files, *samples.files), facts=quantized_facts(samples.digest))
            return SimpleNamespace(output=lambda kind: made, metrics=METRICS)

        context.call = call
        context.read_made = lambda artifact, name: context.stored(artifact.file(name))
        network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        return MeasuringDevice(context, context.config.measure_on, network), network, asked

    return make


def test_layers_are_probed_on_the_target_in_its_format_and_scheme(asking):
    device, _, asked = asking(latency=0.5, measure_on={"target": "board", "format": "onnx"})
    assert device.costs([PROBE]) == ({PROBE: 7.0, OTHER: 8.0}, 0.02)
    assert asked == [("probe", {"target": "board", "format": "onnx", "scheme": "int8", "probes": (PROBE,)}, {})]


@pytest.mark.parametrize(("measure", "share", "source"), [("latency", 0.5, 3.0), ("instructions", 0.25, 900)])
def test_a_network_is_benchmarked_against_the_source_which_is_exported_once(asking, measure, share, source):
    device, network, asked = asking(**{measure: 0.5}, measure_on={"target": "board"})
    assert (device.share(network), device.share(network), device.source_cost()) == (share, share, source)
    assert [stage for stage, *_ in asked].count("export") == 3  # both candidates and the source
    first, second, of_source = (inputs for stage, _, inputs in asked if stage == "benchmark")
    assert first["baseline"] == second["baseline"] == of_source["baseline"] == of_source["export"]
    assert first["export"] != first["baseline"]


def test_only_int8_needs_samples(asking):
    for scheme, files in (("int8", 2), ("float32", 1)):
        device, network, asked = asking(latency=0.5, measure_on={"target": "board", "scheme": scheme})
        device.share(network)
        quantized = next(inputs["model"] for stage, _, inputs in asked if stage == "export")
        assert len(quantized.files) == files
        assert (quantized.facts.quantization.scheme, quantized.facts.calibration is None) == (scheme, files == 1)


def test_mixed_layers_cost_what_the_faster_scheme_does_and_networks_are_mixed_as_a_recipe_has_them(asking):
    device, network, asked = asking(latency=0.5, measure_on={"target": "board", "mixed": True})
    assert device.costs([PROBE, OTHER])[0] == {PROBE: 5.0, OTHER: 8.0}
    assert device.share(network) == 0.5
    made = [config["schemes"] for stage, config, _ in asked if stage == "quantize"]
    assert made == [({"mixed": {"scheme": "int8", "faster_on": "board"}},)] * 2  # of it and of the source
    timed = [inputs["model"] for stage, _, inputs in asked if stage == "export"]
    samples = [decode_samples(device._context.read_made(model, CALIBRATION_FILE)) for model in timed]
    assert [array.shape for array in samples] == [(COST_SAMPLES, 4)] * 2  # more would only take longer


def test_without_a_measured_target_there_is_no_share(asking):
    device, network, _ = asking(ratio=0.5, round_to="auto", measure_on={"target": "board"})
    with pytest.raises(PostconditionError, match="no target that is measured"):
        device.share(network)
