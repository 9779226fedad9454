"""Export one quantized model to one format, as files that their runtime has loaded and run.

The code and requirements of a format are in its folder under `stages/formats/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pipeline.contracts.stage import Axis, Input, StageConfig, StageContext, StageResult, Upstream
from pipeline.data.spec import DataSpec
from pipeline.errors import PostconditionError, PreconditionError, RecipeError
from pipeline.records.artifacts import Artifact, Kind
from pipeline.records.metrics import COUNTED, SIZE, Metric
from pipeline.reports.command_lines import install_optional
from stages.export.config import CommonConfig, ExportConfig
from stages.formats.conversion import ALLOWED_DIFFERENCE, quantized_facts
from stages.formats.registry import format_of, formats, missing_package, of_all_formats, packages_that_make


class ExportStage:
    """Convert; in all schemes but float32 and float16 the converter, or a step after it, also quantizes."""

    name: ClassVar[str] = "export"
    version: ClassVar[int] = 8
    config: ClassVar[type[StageConfig]] = ExportConfig
    inputs: ClassVar[Mapping[str, Input]] = {"model": Input(("quantized-model",))}
    outputs: ClassVar[tuple[Kind, ...]] = tuple(file_format.kind for file_format in formats().values())
    axis: ClassVar[Axis | None] = Axis("formats", "{element}/{branch}")
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        SIZE,
        *COUNTED,
        Metric("export_difference", "share", lower_is_better=True),
        *of_all_formats(lambda file_format: file_format.metrics),
    )
    packages: ClassVar[tuple[str, ...]] = packages_that_make(None)

    def packages_for(self, axis: str | None) -> tuple[str, ...]:
        return packages_that_make(axis)

    def kind_for(self, axis: str) -> Kind:
        """Return the kind of artifact that an element of the axis becomes."""
        return format_of(axis).kind

    def splits(self, config: CommonConfig) -> tuple[str, ...]:
        return ()

    def filled(self, config: CommonConfig, data: DataSpec, folder: Path) -> CommonConfig:
        """Fill in the names of classes and the preprocessing."""
        updates = dict[str, object]()
        if config.labels is None:
            updates["labels"] = data.class_names(folder)
        if config.preprocess is None:
            updates["preprocess"] = data.preprocess
        return config.model_copy(update=updates)

    def refuses(self, config: CommonConfig, axis: str, upstream: Upstream, folder: Path) -> str | None:
        """Return why a format does not support quantize's settings, or None; asked before anything runs."""
        quantized_by: Any = upstream.settings[upstream.kind]
        file_format = format_of(axis)
        missing = missing_package(file_format)
        if missing is not None:
            raise RecipeError(f"{file_format.name} files need the package {missing}", hint=install_optional(missing))
        if quantized_by.ladder and quantized_by.ladder_format != (file_format.made_from or file_format.name):
            return f"the ladder measures {quantized_by.ladder_format} (quantize.ladder_format)"
        reasons = (file_format.refuses(quantization) for quantization in quantized_by.possible)
        return next((reason for reason in reasons if reason), None)

    def prepare(self, config: CommonConfig, threads: int) -> None:
        """Start the child that will convert: meanwhile it imports the converters."""
        from stages.formats.apart.process import warm

        warm(threads, tuple(module for name in config.formats for module in formats()[name].imports))

    def requires(self, config: CommonConfig, inputs: Mapping[str, Artifact]) -> None:
        if len(config.formats) != 1:
            raise PreconditionError(f"one action exports one format, not {len(config.formats)}")
        facts = quantized_facts(inputs["model"])
        if facts.quantization.calibrated and facts.calibration is None:
            what = f"the {facts.scheme} model comes without its calibration set"
            raise PreconditionError(what, hint="quantize it again")
        file_format, where = format_of(config.formats[0]), f"{config.formats[0]}/{facts.scheme}"
        reason, missing = file_format.refuses(facts.quantization), missing_package(file_format)
        if reason:
            raise PreconditionError(reason, where=where)
        if missing is not None:
            raise PreconditionError(f"it needs the package {missing}", where=where, hint=install_optional(missing))

    def run(self, context: StageContext[CommonConfig]) -> StageResult:
        quantized = quantized_facts(context.inputs["model"])
        return format_of(context.config.formats[0]).convert(context, quantized)

    def ensures(self, context: StageContext[CommonConfig], result: StageResult) -> None:
        """Check that the runtime computed what Keras does; `run` has seen it load the file and give finite numbers."""
        scheme, difference = quantized_facts(context.inputs["model"]).scheme, result.metrics["export_difference"]
        allowed = ALLOWED_DIFFERENCE.get(scheme)
        if allowed is not None and not difference <= allowed:  # `not`, so that NaN is refused as well
            raise PostconditionError(
                f"the file's outputs differ from Keras' by {difference:.1e} (relative), {allowed:.0e} is allowed",
                where=context.axis,
                hint="the converter changed what the model computes: please report it with the model",
            )
