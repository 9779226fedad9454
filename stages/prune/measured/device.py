"""Use the device of `measure_on` through sub-steps: `probe` for single layers, `export` and `benchmark` for networks.

All of them are cached: a layer's cost by device, runtime and scheme, whatever network it came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.contracts.stage import StageContext
from pipeline.errors import PostconditionError
from pipeline.records.artifacts import Artifact
from pipeline.records.facts import QuantizedFacts
from pipeline.records.schemes import Quantization
from stages.formats.probe import COST_FILE, CostTable, Probe, ProbeScheme
from stages.formats.registry import format_of
from stages.keras.free_sizes import shapes_of
from stages.keras.normal_form import keras_facts, random_inputs
from stages.keras.stored import write_model
from stages.keras.types import KerasModel
from stages.prune.config import RATIO_OF, MeasureOn, PruneConfig
from stages.samples.calibration import COST_SAMPLES, hardly_calibrated, write_calibration_set

SOURCE_COSTS = {"latency": "baseline_p50_ms", "instructions": "baseline_instructions"}


class MeasuringDevice:
    """Implement `stages.prune.choosing.choice.Device`. `source` is the network that shares are relative to."""

    def __init__(self, context: StageContext[PruneConfig], on: MeasureOn, source: Any) -> None:
        self._context, self._on, self._source = context, on, source
        self._source_file: Artifact | None = None

    def costs(self, probes: Sequence[Probe]) -> tuple[Mapping[Probe, float], float]:
        schemes: tuple[ProbeScheme, ...] = ("int8", "float32") if self._on.mixed else (self._on.scheme,)
        tables = [self._table(probes, scheme) for scheme in schemes]
        costs = [{entry.probe: entry.cost for entry in table.costs} for table in tables]
        return {probe: min(own[probe] for own in costs) for probe in costs[0]}, max(table.spread for table in tables)

    def _table(self, probes: Sequence[Probe], scheme: ProbeScheme) -> CostTable:
        settings = {"target": self._on.target, "format": self._on.format, "scheme": scheme}
        made = self._context.call("probe", {**settings, "probes": tuple(probes)}, {}).output("cost-table")
        return CostTable.model_validate_json(self._context.read_made(made, COST_FILE).read_bytes())

    def share(self, model: KerasModel) -> float:
        return self._benchmark(self._exported(model))[RATIO_OF[self._measure]]

    def source_cost(self) -> float:
        return self._benchmark(self._exported_source())[SOURCE_COSTS[self._measure]]

    @property
    def _measure(self) -> str:
        target = self._context.config.target
        if target is None or target[0] not in RATIO_OF:
            raise PostconditionError("the recipe gives no target that is measured", where="prune")
        return target[0]

    def _benchmark(self, candidate: Artifact) -> Mapping[str, float]:
        inputs = {"export": candidate, "baseline": self._exported_source()}
        return self._context.call("benchmark", {"targets": (self._on.target,)}, inputs).metrics

    def _exported_source(self) -> Artifact:
        if self._source_file is None:
            self._source_file = self._exported(self._source)
        return self._source_file

    def _exported(self, model: KerasModel) -> Artifact:
        """Return the file of a network."""
        quantized, shapes = self._mixed(model) if self._on.mixed else self._quantized(model), shapes_of(model)
        sizes = {"shapes": shapes} if shapes else {}
        made = self._context.call("export", {"formats": (self._on.format,), **sizes}, {"model": quantized})
        return made.output(format_of(self._on.format).kind)

    def _mixed(self, model: KerasModel) -> Artifact:
        """Return a network in int8 with those layers in float32 that are faster so, as a recipe's scheme has them."""
        scheme = {"mixed": {"scheme": "int8", "faster_on": self._on.target}}
        made = Artifact(files=(write_model(self._context, model),), facts=keras_facts(model))
        quantized = self._context.call("quantize", {"schemes": (scheme,)}, {"model": made}).output("quantized-model")
        return hardly_calibrated(self._context, quantized)

    def _quantized(self, model: KerasModel) -> Artifact:
        """Return a network quantized on random inputs: its cost does not depend on data."""
        context, facts = self._context, keras_facts(model)
        file = write_model(context, model)
        calibration = None
        if self._on.scheme == "int8":
            calibration = write_calibration_set(context, random_inputs(model, samples=COST_SAMPLES, seed=0))
        return Artifact(
            files=(file, *(calibration.files if calibration else ())),
            facts=QuantizedFacts(
                quantization=Quantization(scheme=self._on.scheme),
                io="float32",
                calibration=calibration.digest if calibration else None,
                params=facts.params,
                macs=facts.macs,
                macs_unknown=facts.macs_unknown,
                model_digest=Artifact(files=(file,), facts=facts).digest,
            ),
        )


def device_of(context: StageContext[Any], source: KerasModel) -> MeasuringDevice | None:
    """Return the device of `measure_on`, which compares networks with `source`; None if nothing is to be measured."""
    on = context.config.measure_on
    return None if on is None else MeasuringDevice(context, on, source)
