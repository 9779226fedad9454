"""Climb the ladder: the fastest scheme that is accurate enough, found by making and measuring them.

Every try is a separate chain of actions (quantize, export, benchmark, verify), planned and cached as any other, so a
ladder that was killed or whose bound changed reuses what is measured already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import rfc8785

from pipeline.contracts.stage import StageContext
from pipeline.errors import NativeEndError, PostconditionError, PreconditionError, UnsupportedError
from pipeline.records.artifacts import Artifact
from pipeline.records.declared import every_metric
from pipeline.records.schemes import Quantization
from stages.formats.registry import format_of, whole_model
from stages.keras.normal_form import MODEL_FILE
from stages.quantize.config import SELECTIVE, QuantizeConfig, Rung
from stages.quantize.ladder_facts import LadderFacts, LadderTry
from stages.quantize.layer_errors import LayerError, layer_errors
from stages.samples.calibration import calibration_files, decode_samples

ERRORS_FILE = "layer-errors.json"
ERROR_SAMPLES = 8  # calibration samples on which layers' errors are measured
# Only report the figures: the ladder decides what is accurate enough.
# Naming `min_cosine` also drops the defaults of the two bounds that it replaces (verify/config.py).
UNBOUNDED = {"max_diff": None, "min_cosine": None}


@dataclass(frozen=True)
class Climbed:
    """Hold the quantized model that the ladder ended on, its calibration set if it has one, and the report."""

    quantized: Artifact
    calibration: Artifact | None
    report: Artifact


@dataclass(frozen=True)
class _Made:
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


class Ladder:
    """Climb once, from the fastest rung on."""

    def __init__(self, context: StageContext[QuantizeConfig]) -> None:
        self._context, self._config = context, context.config
        self._tries: list[LadderTry] = []
        self._errors: list[LayerError] = []
        self._float = self._make("float32", Quantization(scheme="float32"))

    def climb(self) -> Climbed:
        """Return the scheme to take; PostconditionError, with what was tried, if none is accurate enough."""
        rungs = self._by_latency([rung for rung in self._rungs if rung != SELECTIVE])
        reserve: tuple[_Made, float] | None = None  # accurate enough, unless a faster rung is, too
        for index, (made, ratio) in enumerate(rungs):
            if reserve is not None and ratio >= reserve[1]:
                break
            if self._accurate(made, ratio):
                return self._climbed(made, f"the fastest of {len(rungs)} rungs that is")
            if self._selective_comes_after(index, rungs):
                reserve = self._selected()
        if not rungs:
            reserve = self._selected()
        if reserve is None:
            losses = ", ".join(f"{attempt.name} {attempt.accuracy_drop:.4f}" for attempt in self._tries)
            raise PostconditionError(
                f"no rung of the ladder loses at most {self._bound:g} of accuracy: {losses}",
                where="quantize.ladder",
                hint="add float16 or float32, allow more, or train for it",
            )
        return self._climbed(reserve[0], "int8 with as few layers in float as hold the bound")

    @property
    def _rungs(self) -> tuple[Rung, ...]:
        return self._config.ladder or ()

    @property
    def _bound(self) -> float:
        assert self._config.max_accuracy_drop is not None
        return self._config.max_accuracy_drop

    def _selective_comes_after(self, index: int, rungs: Sequence[tuple[_Made, float]]) -> bool:
        """Return whether selective is next: it is slower than int8, so it follows it, or comes first without int8."""
        if SELECTIVE not in self._rungs:
            return False
        names = [made.name for made, _ in rungs]
        return index == (names.index("int8") if "int8" in names else 0)

    def _by_latency(self, names: Sequence[Rung]) -> list[tuple[_Made, float]]:
        timed = []
        for done, name in enumerate(names):
            self._context.events.advanced(done, len(self._rungs), "rungs", f"latency of {name}")
            made = self._tried(name, Quantization(scheme=name))  # type: ignore[arg-type]  # `selective` is not among them
            if made is not None:
                timed.append((made, self._latency(made)))
        return sorted(timed, key=lambda rung: rung[1])

    def _selected(self) -> tuple[_Made, float] | None:
        """Return int8 with the worst layers in float, 1, 2, 4 … of them until the bound holds; None if it never does.

        Their readers stay in float too: they would quantize these layers' outputs.
        """
        base = self._tried("int8", Quantization(scheme="int8"))
        if base is None:
            return None
        self._errors = self._layer_errors(base)
        for count in doubling(len(self._errors)):
            kept = tuple(sorted({name for error in self._errors[:count] for name in (error.layer, *error.readers)}))
            self._context.events.advanced(count, len(self._errors), "layers in float", f"{count} worst")
            made = self._make(SELECTIVE, Quantization(scheme="int8", keep_float=kept))
            if self._accurate(made, None):
                ratio = self._latency(made)
                self._tries[-1] = self._tries[-1].model_copy(update={"latency_ratio": ratio})
                return made, ratio
        return None

    def _tried(self, name: str, quantization: Quantization) -> _Made | None:
        """Return a rung; None, with a warning, if the model can't be converted or the conversion crashes."""
        try:
            return self._make(name, quantization)
        except (UnsupportedError, NativeEndError) as error:
            self._context.events.warned(f"ladder: without {name}: {error}")
            return None

    def _make(self, name: str, quantization: Quantization) -> _Made:
        context, config = self._context, self._config
        settings = {"schemes": ({name: quantization.model_dump()},), "io": config.io}
        record = context.call("quantize", settings, {"model": context.inputs["model"]})
        quantized = record.output("quantized-model")
        exported = context.call("export", {"formats": (config.ladder_format,)}, {"model": quantized})
        export = exported.output(format_of(config.ladder_format).kind)
        return _Made(name, quantization, record.outputs, export)

    def _latency(self, made: _Made) -> float:
        """Return the latency relative to float32's."""
        settings = {"targets": (self._config.ladder_target,), "rounds": self._config.ladder_rounds}
        inputs = {"export": made.export, "baseline": self._float.export}
        metrics = self._context.call("benchmark", settings, inputs).metrics
        ratio = next((metrics[name] for name in speed_ratios() if name in metrics), None)
        if ratio is None:
            what = f"{self._config.ladder_target} measures nothing that a ladder can go by"
            hint = f"it takes {', '.join(speed_ratios())}"
            raise PreconditionError(what, where="quantize.ladder_target", hint=hint)
        return float(ratio)

    def _accurate(self, made: _Made, ratio: float | None) -> bool:
        """Return whether the bound holds; records the try."""
        self._context.events.advanced(len(self._tries), len(self._rungs), "rungs", f"accuracy of {made.name}")
        # Not the test split, which is there to judge what was chosen.
        settings = {"tolerances": {made.how.scheme: UNBOUNDED}, "data_split": "validation"}
        inputs = {"export": made.export, "reference": self._context.inputs["model"], "quantized": made.quantized}
        metrics = self._context.call("verify", settings, inputs).metrics
        drop = metrics.get("accuracy_drop_reference")
        if drop is None:
            what = "a ladder goes by accuracy, and there is none here"
            raise PreconditionError(what, where="quantize.ladder", hint="it is for one output of classes")
        self._tries.append(
            LadderTry(
                name=made.name,
                kept_float=made.how.keep_float,
                size_bytes=made.export.size_bytes,
                latency_ratio=ratio,
                accuracy_drop=drop,
            )
        )
        return bool(drop <= self._bound)

    def _layer_errors(self, made: _Made) -> list[LayerError]:
        from stages.formats.apart.runtimes import tensors_apart
        from stages.keras.normal_form import decode_model
        from stages.keras.precision import in_float32
        from stages.keras.tensorflow import tensorflow_action

        context = self._context
        with tensorflow_action(context.seed, context.threads):
            # Not this action's own model: int8 quantizes an equal one, whose layers the file computes.
            model = in_float32(decode_model(context.read_made(made.quantized, MODEL_FILE)))
            arrays = self._samples(made, model.input_names, model.inputs)
            tensors = partial(tensors_apart, doing=f"layers of {made.name}", events=context.events)
            return layer_errors(model, made.export.kind, self._file(made.export), arrays, tensors)

    def _file(self, export: Artifact) -> Path:
        """Return the model's file, with those that belong to it next to it."""
        read = partial(self._context.read_made, export)
        return whole_model(export.kind, export.names, read, self._context.work_dir / "tmp-model")

    def _samples(self, made: _Made, names: Sequence[str], tensors: Sequence[Any]) -> Mapping[str, Any]:
        """Return some of the calibration samples, by input name."""
        assert made.calibration is not None
        files = calibration_files(len(names))
        arrays = [decode_samples(self._context.read_made(made.calibration, file))[:ERROR_SAMPLES] for file in files]
        # Calibration files hold float32, whatever type an input has.
        return {n: a.astype(t.dtype.as_numpy_dtype) for n, a, t in zip(names, arrays, tensors, strict=True)}

    def _climbed(self, made: _Made, why: str) -> Climbed:
        context = self._context
        chosen = next(attempt for attempt in reversed(self._tries) if attempt.name == made.name)
        lost = ", ".join(
            f"{attempt.name} loses {attempt.accuracy_drop:.4f}" for attempt in self._tries if attempt is not chosen
        )
        kept = f" with {', '.join(chosen.kept_float)} in float" if chosen.kept_float else ""
        context.events.warned(
            f"ladder: {made.name}{kept} loses {chosen.accuracy_drop:.4f} (at most {self._bound:g} is allowed) "
            f"in {chosen.latency_ratio:.2f} of float32's time" + (f"; {lost}" if lost else "")
        )
        facts = LadderFacts(
            target=self._config.ladder_target,
            max_accuracy_drop=self._bound,
            tries=tuple(self._tries),
            chosen=made.name,
            why=why,
        )
        document = rfc8785.dumps([error.model_dump() for error in self._errors])
        files = (context.write(ERRORS_FILE, document, "application/json"),) if self._errors else ()
        return Climbed(made.quantized, made.calibration, Artifact(files=files, facts=facts))


def speed_ratios() -> tuple[str, ...]:
    """Return the ratios that a ladder can go by, lowest is fastest; it takes the first that a target gives."""
    known = every_metric()
    fast = {metric.name for metric in known.values() if metric.speed and metric.lower_is_better}
    return tuple(metric.name for metric in known.values() if metric.unit == "ratio" and metric.of in fast)


def doubling(most: int) -> Iterator[int]:
    """Yield 1, 2, 4, … and `most` itself; nothing if that is 0."""
    count = 1
    while count < most:
        yield count
        count *= 2
    if most:
        yield most
