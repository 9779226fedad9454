"""Make files of one model and measure them, for a ladder, `faster_on` and a budget: each a chain of cached actions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pipeline.contracts.stage import StageContext
from pipeline.errors import PreconditionError
from pipeline.records.artifacts import Artifact
from pipeline.records.declared import every_metric
from pipeline.records.facts import ParityFacts
from pipeline.records.metrics import metric_and_output
from pipeline.records.schemes import Quantization
from stages.formats.registry import format_of, whole_model
from stages.formats.tensors import Tensors
from stages.keras.normal_form import MODEL_FILE
from stages.keras.types import KerasModel
from stages.quantize.config import QuantizeConfig
from stages.quantize.layer_errors import LayerError, layer_errors
from stages.samples.calibration import calibration_files, decode_samples, hardly_calibrated

ERROR_SAMPLES = 8  # calibration samples on which layers' errors are measured
# Only report the figures: who tries decides what is accurate enough.
# Naming `min_cosine` also drops the defaults of the two bounds that it replaces (verify/config.py).
UNBOUNDED = {"max_diff": None, "min_cosine": None}
DROP = "accuracy_drop_reference"
REAL = "test"  # what a parity report calls samples of a split


@dataclass(frozen=True)
class Made:
    """Hold a scheme, quantized and exported."""

    name: str
    how: Quantization
    outputs: tuple[Artifact, ...]
    export: Artifact

    @property
    def quantized(self) -> Artifact:
        return next(output for output in self.outputs if output.kind == "quantized-model")

    @property
    def calibration(self) -> Artifact | None:
        return next((output for output in self.outputs if output.kind == "calibration-set"), None)


@dataclass(frozen=True)
class Judged:
    """Hold what a file loses on the validation split.

    `noise` is the power of the outputs' errors relative to the outputs', of the output where it is largest.
    `accuracy_drop` is the model's accuracy minus the file's, None without labels of classes.
    """

    noise: float
    accuracy_drop: float | None


@dataclass(frozen=True)
class Tries:
    """Make and measure files of the action's model in one format; `where` is the setting that asks for it.

    Files of which only the cost counts (`only_cost`) are calibrated on few samples.
    """

    context: StageContext[QuantizeConfig]
    format: str
    where: str
    only_cost: bool = False

    @cached_property
    def base(self) -> Made:
        """Return the float32 file, which costs are relative to."""
        return self.make("float32", Quantization(scheme="float32"))

    def make(self, name: str, how: Quantization) -> Made:
        settings = {"schemes": ({name: how.model_dump()},), "io": self.context.config.io}
        record = self.context.call("quantize", settings, {"model": self.context.inputs["model"]})
        quantized = record.output("quantized-model")
        inputs = {"model": hardly_calibrated(self.context, quantized) if self.only_cost else quantized}
        written = self.context.config.model_dump(include={"labels", "preprocess"}, exclude_none=True)
        exported = self.context.call("export", {"formats": (self.format,), **written}, inputs)
        return Made(name, how, record.outputs, exported.output(format_of(self.format).kind))

    def cost(self, made: Made, target: str, rounds: int) -> tuple[str, float]:
        """Return the metric that tells which of two files is faster on the target, and its value relative to float32's.

        PreconditionError if the target measures no such thing.
        """
        inputs = {"export": made.export, "baseline": self.base.export}
        metrics = self.context.call("benchmark", {"targets": (target,), "rounds": rounds}, inputs).metrics
        name = next((name for name in speed_ratios() if name in metrics), None)
        if name is None:
            what = f"{target} measures nothing that tells which of two files is faster"
            raise PreconditionError(what, where=self.where, hint=f"it takes {', '.join(speed_ratios())}")
        return name, float(metrics[name])

    def judge(self, made: Made) -> Judged:
        """Return what a file loses on the validation split: the test split is there to judge what was chosen."""
        settings = {"tolerances": {made.how.scheme: UNBOUNDED}, "data_split": "validation"}
        inputs = {"export": made.export, "reference": self.context.inputs["model"], "quantized": made.quantized}
        record = self.context.call("verify", settings, inputs)
        parity = record.output("parity-report").facts
        assert isinstance(parity, ParityFacts)
        rows = [row for row in parity.rows if row.inputs == REAL]
        drops = [value for name, value in record.metrics.items() if metric_and_output(name)[0] == DROP]
        return Judged(
            noise=10 ** (-min(row.sqnr_db for row in rows) / 10),
            accuracy_drop=max(drops, default=None),
        )

    def layer_errors(self, made: Made) -> list[LayerError]:
        """Return what each layer loses in a calibrated file, on some of its calibration samples."""
        with self._inside(made, made) as (model, file, arrays, tensors):
            return layer_errors(model, made.export.kind, file, arrays, tensors)

    def layers_together(self, calibrated: Made) -> list[tuple[str, ...]]:
        """Return for each operator of the float32 file the layers that it computes: they share its precision.

        A calibration sample of another file shows which: in 8 bits a tensor may be too far off to be known again.
        """
        from stages.formats.layers.operators import layers_of_operators

        with self._inside(self.base, calibrated) as (model, file, arrays, tensors):
            sample = {name: values[:1] for name, values in arrays.items()}
            return layers_of_operators(model, self.base.export.kind, file, sample, tensors)

    @contextmanager
    def _inside(self, made: Made, calibrated: Made) -> Iterator[tuple[KerasModel, Path, Mapping[str, Any], Tensors]]:
        """Give the model that a file computes, the file, samples of a calibrated one, and what computes its tensors."""
        from stages.formats.apart.runtimes import tensors_apart
        from stages.keras.normal_form import decode_model
        from stages.keras.precision import in_float32
        from stages.keras.tensorflow import tensorflow_action

        context = self.context
        with tensorflow_action(context.seed, context.threads):
            # Not this action's own model: int8 quantizes an equal one, whose layers the file computes.
            model = in_float32(decode_model(context.read_made(made.quantized, MODEL_FILE)))
            tensors = partial(tensors_apart, doing=f"layers of {made.name}", events=context.events)
            yield model, self._file(made.export), _samples(context, calibrated, model), tensors

    def _file(self, export: Artifact) -> Path:
        """Return the model's file, with those that belong to it next to it."""
        read = partial(self.context.read_made, export)
        return whole_model(export.kind, export.names, read, self.context.work_dir / "tmp-model")


def _samples(context: StageContext[QuantizeConfig], made: Made, model: Any) -> Mapping[str, Any]:
    """Return some of the calibration samples, by input name."""
    assert made.calibration is not None
    files = calibration_files(len(model.inputs))
    arrays = [decode_samples(context.read_made(made.calibration, file))[:ERROR_SAMPLES] for file in files]
    # Calibration files hold float32, whatever type an input has.
    typed = (array.astype(tensor.dtype.as_numpy_dtype) for tensor, array in zip(model.inputs, arrays, strict=True))
    return dict(zip(model.input_names, typed, strict=True))


def known_layers(context: StageContext[Any]) -> list[str]:
    """Return the names of the layers of the action's model that can be kept, in the model's order."""
    from stages.keras.layer_calls import layer_names
    from stages.keras.stored import shared_model
    from stages.keras.tensorflow import tensorflow_action

    with tensorflow_action(context.seed, context.threads):
        return layer_names(shared_model(context, "model"))


def speed_ratios() -> tuple[str, ...]:
    """Return the ratios that tell which of two files is faster, lowest is fastest; a target's first one is taken."""
    known = every_metric()
    fast = {metric.name for metric in known.values() if metric.speed and metric.lower_is_better}
    return tuple(metric.name for metric in known.values() if metric.unit == "ratio" and metric.of in fast)
