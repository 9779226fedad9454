"""Choose which scheme to export a model in, and the data on which its ranges are measured.

Post-training quantization itself is the converters' work, so it happens in export: the resulting numbers differ by
format. This stage decides everything they share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import DependsOnDevice
from pipeline.contracts.stage import Axis, Input, StageConfig, StageContext, StageResult
from pipeline.data.spec import DataSpec
from pipeline.errors import PreconditionError, RecipeError
from pipeline.records.artifacts import Artifact, Kind
from pipeline.records.facts import QuantizedFacts
from pipeline.records.metrics import Metric
from pipeline.records.schemes import Budget, Precision, Quantization
from stages.keras.inputs import by_input
from stages.keras.normal_form import MODEL_FILE
from stages.quantize.calibration import asleep_in_words, digest_of, doubts_about
from stages.quantize.config import FASTER_FORMAT, QuantizeConfig
from stages.quantize.equalized import equalized_model
from stages.samples.batches import batches_of
from stages.samples.calibration import write_calibration_set
from stages.samples.checks import keras_facts_of, require_finite_inputs, require_inputs

PRECISIONS: Mapping[str, Precision] = {"keep_int16": "int16x8", "keep_float": "float32"}  # the last one wins
KEEPING = (*PRECISIONS, "faster_on", "budget")
CHECKED_BATCH = 32  # samples that run through the model at once when its activations are checked


class QuantizeStage:
    """Attach a scheme to a Keras model; if ranges are to be measured also the preprocessed calibration samples."""

    name: ClassVar[str] = "quantize"
    version: ClassVar[int] = 5
    config: ClassVar[type[StageConfig]] = QuantizeConfig
    inputs: ClassVar[Mapping[str, Input]] = {"model": Input(("keras-model",))}
    outputs: ClassVar[tuple[Kind, ...]] = ("quantized-model", "calibration-set", "ladder-report", "budget-report")
    axis: ClassVar[Axis | None] = Axis("schemes", named=False)  # exports name their results
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "numpy")  # TensorFlow decodes images

    def splits(self, config: QuantizeConfig) -> tuple[str, ...]:
        calibrated = any(quantization.calibrated for quantization in config.possible)
        trained = any(quantization.qat for quantization in config.possible)
        judged = config.ladder or any(quantization.budget for quantization in config.possible)
        return (
            *(("calibration",) if calibrated else ()),
            *(("train",) if trained else ()),
            *(("validation",) if trained or judged else ()),
        )

    def filled(self, config: QuantizeConfig, data: DataSpec, folder: Path) -> QuantizeConfig:
        """Fill in what export will write into files, if a budget counts their bytes."""
        if not config.budgets:
            return config
        updates = {
            "labels": config.labels or data.class_names(folder),
            "preprocess": config.preprocess or data.preprocess,
        }
        return config.model_copy(update=updates)

    def baseline(self) -> QuantizeConfig:
        return QuantizeConfig.model_validate({"schemes": ("float32",)})

    def device(self, config: QuantizeConfig, folder: Path, axis: str | None) -> Mapping[str, str] | None:
        """Return the fingerprints of the targets that the result depends on; nothing if it depends on none.

        DeviceError if a target is not set up, RecipeError if there is none of that name.
        """
        benchmark, found = stages()["benchmark"], dict[str, str]()
        assert isinstance(benchmark, DependsOnDevice)
        for budget in config.budgets:
            _require_measured(budget, folder)
        for target, file_format in self._measured(config):
            settings = benchmark.config.model_validate({"targets": (target,)})
            found |= benchmark.device(settings, folder, file_format) or {}
        return found or None

    def targets_of(self, config: QuantizeConfig) -> tuple[str, ...]:
        """Return the targets that a ladder or a scheme measures on."""
        return tuple(dict.fromkeys(target for target, _ in self._measured(config)))

    def _measured(self, config: QuantizeConfig) -> Iterator[tuple[str, str]]:
        """Yield each target that something is measured on, and the format of the files."""
        if config.ladder:
            yield config.ladder_target, config.ladder_format
        for scheme in config.variants.values():
            if scheme.faster_on:
                yield scheme.faster_on, FASTER_FORMAT
            if scheme.budget and scheme.budget.target:
                yield scheme.budget.target, scheme.budget.format

    def labels_for(self, config: QuantizeConfig) -> tuple[str, str] | None:
        """Return what needs labels, and what to do without, if anything."""
        if config.ladder:
            return "quantize.ladder", "name the schemes: a ladder goes by accuracy"
        if any(budget.max_accuracy_drop is not None for budget in config.budgets):
            return "a budget's max_accuracy_drop", "set max_noise: agreement with the model's outputs needs no labels"
        if any(quantization.qat for quantization in config.possible):
            return "qat", "leave it out: int8 is then calibrated, which needs no labels"
        return None

    def requires(self, config: QuantizeConfig, inputs: Mapping[str, Artifact]) -> None:
        schemes = len(config.variants)
        if schemes + bool(config.ladder) != 1:
            what = f"one action quantizes by one scheme or climbs one ladder, not {schemes} schemes"
            raise PreconditionError(what)
        keras_facts_of(inputs["model"])

    def run(self, context: StageContext[QuantizeConfig]) -> StageResult:
        if context.config.ladder:
            return _climbed(context)
        quantization, model = context.config.quantization, context.inputs["model"]
        reports: tuple[Artifact, ...] = ()
        if any(getattr(quantization, name) for name in KEEPING):
            quantization, reports = _with_kept_layers(context, quantization)
        arrays = _calibration_arrays(context) if quantization.calibrated else None
        calibration = write_calibration_set(context, arrays) if arrays else None
        facts = keras_facts_of(model)
        trained = _trained(context, quantization) if quantization.qat else model
        alike = equalized_model(context, arrays, quantization.kept) if arrays and quantization.equalized else None
        quantized = Artifact(
            files=(alike.file if alike else trained.file(MODEL_FILE), *(calibration.files if calibration else ())),
            facts=QuantizedFacts(
                quantization=quantization,
                io=_io(context.config),
                calibration=calibration.digest if calibration else None,
                params=facts.params,
                macs=facts.macs,
                macs_unknown=facts.macs_unknown,
                model_digest=trained.digest,
                rewrites=alike.notes if alike else (),
                rewrites_difference=alike.difference if alike else 0.0,
            ),
        )
        return StageResult(outputs=(quantized, *((calibration,) if calibration else ()), *reports))

    def ensures(self, context: StageContext[QuantizeConfig], result: StageResult) -> None:
        """Check nothing, since nothing was computed: `requires` and `run` have checked all inputs."""


def _require_measured(budget: Budget, folder: Path) -> None:
    """Raise RecipeError unless the budget's target measures what it limits, or which of two files is faster."""
    from stages.devices.target import find_target
    from stages.quantize.tries import speed_ratios

    if budget.target is None:
        return
    measures = [name for name in speed_ratios() if name in {m.name for m in find_target(budget.target, folder).metrics}]
    wanted = budget.ratio_name or next(iter(measures), "a ratio of speed")
    if wanted not in measures:
        what = f"{budget.target} does not measure {wanted}"
        hint = f"limit {measures[0]} there" if measures else f"name a target that measures {', '.join(speed_ratios())}"
        raise RecipeError(what, where="quantize.schemes.budget", hint=hint)


def _climbed(context: StageContext[QuantizeConfig]) -> StageResult:
    from stages.quantize.ladder import Ladder

    climbed = Ladder(context).climb()
    return StageResult(
        outputs=(climbed.quantized, *((climbed.calibration,) if climbed.calibration else ()), climbed.report)
    )


def _trained(context: StageContext[QuantizeConfig], quantization: Quantization) -> Artifact:
    """Return the model after quantization-aware training: a separate sub-step, cached independently."""
    assert quantization.qat is not None
    settings = quantization.qat.model_dump(exclude={"preserve"})
    aware = {"exclude": quantization.kept, "preserve": quantization.qat.preserve}
    record = context.call("finetune", {**settings, "quantization_aware": aware}, {"model": context.inputs["model"]})
    return record.output("keras-model")


def _io(config: QuantizeConfig) -> Literal["float32", "int8", "int16"]:
    quantization = config.quantization
    if config.io == "float32" or not quantization.calibrated:
        return "float32"
    return "int16" if quantization.scheme == "int16x8" else "int8"


def _with_kept_layers(
    context: StageContext[QuantizeConfig], how: Quantization
) -> tuple[Quantization, tuple[Artifact, ...]]:
    """Return `how` with names of layers that are not in 8 bits, in model order, and the report if they were searched.

    PreconditionError if a pattern has none.
    """
    from stages.keras.layer_patterns import matching
    from stages.quantize.budget import kept_in, within_budget
    from stages.quantize.tries import known_layers

    names = known_layers(context)
    kept: dict[str, Precision] = {}
    for setting, precision in PRECISIONS.items():
        patterns = getattr(how, setting)
        found = {name for pattern in patterns for name in matching(pattern, names, f"quantize.schemes.{setting}")}
        kept |= dict.fromkeys(found, precision)
    budget = how.budget
    how = kept_in(how.model_copy(update={**dict.fromkeys(PRECISIONS, ()), "budget": None}), kept, names)
    if how.faster_on:
        from stages.quantize.faster import kept_where_slower

        how = kept_where_slower(context, how, names)
    if not budget:
        return how, ()
    how, report = within_budget(context, how, budget, names)
    return how, (report,)


class LastChecked:
    """Hold which layers no calibration sample wakes, of what a run checked last: one model is in many schemes."""

    def __init__(self) -> None:
        self.key: tuple[object, ...] = ()
        self.asleep: tuple[str, ...] = ()


def _check_activations(context: StageContext[QuantizeConfig], arrays: Sequence[Any]) -> None:
    """Raise PreconditionError, with the layer, if calibration samples produce NaN or infinity inside the model.

    A range that ends at infinity leaves one step for everything finite. Layers that no sample activates have no range
    at all: they are reported.
    """
    last, key = context.shared.of(LastChecked), (context.inputs["model"].file(MODEL_FILE).digest, digest_of(arrays))
    if last.key != key:
        last.asleep, last.key = _never_woken(context, arrays), key
    if last.asleep:
        context.events.warned(asleep_in_words(last.asleep))


def _never_woken(context: StageContext[QuantizeConfig], arrays: Sequence[Any]) -> tuple[str, ...]:
    """Return the layers that give only zeros on all samples; PreconditionError where one gives NaN or infinity."""
    from stages.keras.layer_calls import first_not_finite, layer_names
    from stages.keras.precision import shared_in_float32
    from stages.keras.tensorflow import tensorflow_action

    with tensorflow_action(context.seed, context.threads):
        model = shared_in_float32(context, "model")
        silent = {layer.name for layer in model._flatten_layers() if layer.weights}  # noqa: SLF001 - nested ones too
        # A fixed batch is kept: `batches_of` fills up the last one.
        size = model.inputs[0].shape[0] or min(CHECKED_BATCH, len(arrays[0]))
        for picked in batches_of(len(arrays[0]), size):
            batch = {
                name: samples[picked].astype(tensor.dtype.as_numpy_dtype, copy=False)
                for name, tensor, samples in zip(model.input_names, model.inputs, arrays, strict=True)
            }
            layer = first_not_finite(model, batch, silent)
            if layer is not None:
                raise PreconditionError(
                    f"layer {layer!r} gives NaN or infinity on calibration samples {picked[0]} to {picked[-1]}",
                    where="data.calibration",
                    hint="are these samples preprocessed as in training? secateur inspect lists all layers",
                )
            context.events.advanced(picked[-1] + 1, len(arrays[0]), "calibration samples")
        return tuple(name for name in layer_names(model) if name in silent)


def _calibration_arrays(context: StageContext[QuantizeConfig]) -> list[Any]:
    """Return the calibration split by input; PreconditionError if there is none, or it does not fit the model."""
    split = context.data("calibration")
    if len(split) == 0:
        raise PreconditionError(
            f"{context.config.quantization.scheme} needs calibration samples, and the split holds none",
            where="data.calibration",
            hint="set data.calibration.take to 100 or more",
        )
    facts = keras_facts_of(context.inputs["model"])
    require_inputs(split, facts)
    arrays = by_input(split.inputs(), [spec.name for spec in facts.inputs])
    require_finite_inputs(split)
    for doubt in dict.fromkeys(doubt for samples in arrays for doubt in doubts_about(samples)):
        context.events.warned(doubt)
    _check_activations(context, arrays)
    return list(arrays)
