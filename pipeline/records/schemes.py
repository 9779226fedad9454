"""Define number formats: what a quantized model's weights and activations are stored and computed in.

Recipes set it under `quantize`, a quantized model carries it, export applies it. The table `SETTINGS` says which
setting matters for which scheme; export decides which schemes a format has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.records.values import Value

Scheme = Literal["float32", "float16", "dynamic", "weight_only", "int8", "int16x8", "int4_weight_only", "int4_dynamic"]
Granularity = Literal["per_channel", "per_tensor", "per_block"]
Ranges = Literal["min_max", "percentile", "entropy", "mse", "auto"]
Rounding = Literal["nearest", "adaptive"]
Precision = Literal["float32", "int16x8"]  # of a layer that is not in int8

CALIBRATED: tuple[Scheme, ...] = ("int8", "int16x8")  # schemes whose ranges are measured on samples
FOUR_BIT: tuple[Scheme, ...] = ("int4_weight_only", "int4_dynamic")
SETTINGS: Mapping[Scheme, tuple[str, ...]] = {
    "float32": (),
    "float16": (),
    "dynamic": ("granularity", "keep_float"),
    "weight_only": ("granularity", "keep_float"),
    "int8": (
        *("granularity", "keep_float", "calibration", "percentile", "activations", "qat"),
        *("rounding", "bias_correction", "equalize", "faster_on", "keep_int16", "budget"),
    ),
    "int16x8": ("rounding", "bias_correction", "equalize"),
    "int4_weight_only": ("granularity", "keep_float"),
    "int4_dynamic": ("granularity", "keep_float"),
}


class Training(Value):
    """Train with quantization in the loop before the model is quantized, on the recipe's training data.

    `preserve` keeps what earlier compression gave: weights that are zero, or that share few values.
    """

    epochs: int = Field(3, ge=1)
    batch: int = Field(64, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    preserve: Literal["sparsity", "clusters"] | None = None


class Budget(Value):
    """Limit what a mixed file of int8 may cost, or what it may lose; which layers are not in int8 is then found.

    `size_bytes` is the size of the file in `format`; `latency_ratio` or `instruction_ratio` its cost on `target`
    relative to the model's float32 file. Within these limits the file is taken that errs least at the outputs, on the
    validation split. With `max_accuracy_drop` or `max_noise` it is the one that costs least of those that lose at most
    that much of the model's accuracy there, or whose outputs' errors have at most that share of the outputs' power,
    which needs no labels. `precisions` are what layers may be in instead of int8. `candidates` is how many layers are
    measured one by one, those first to which int8 adds most noise.
    """

    size_bytes: int | None = Field(None, gt=0)
    latency_ratio: float | None = Field(None, gt=0)
    instruction_ratio: float | None = Field(None, gt=0)
    max_accuracy_drop: float | None = Field(None, ge=0, le=1)
    max_noise: float | None = Field(None, gt=0)
    target: str | None = None
    format: str = "tflite"
    precisions: Annotated[tuple[Precision, ...], Field(strict=False, min_length=1)] = ("float32",)
    candidates: int = Field(8, ge=0)

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        if self.size_bytes is None and self.ratio is None and not self.bounds_loss:
            limits = "size_bytes, latency_ratio, instruction_ratio, max_accuracy_drop or max_noise"
            raise ValueError(f"a budget limits {limits}")
        if self.latency_ratio is not None and self.instruction_ratio is not None:
            raise ValueError("a target measures latency or counts instructions: limit one of them")
        if self.ratio is not None and self.target is None:
            raise ValueError(f"{self.ratio_name} needs a target on which it is measured")
        if self.target is not None and self.ratio is None and not self.bounds_loss:
            raise ValueError("target means nothing here: limit the ratio that it measures, or what may be lost")
        if len(set(self.precisions)) != len(self.precisions):
            raise ValueError("precisions names one twice")
        return self

    @property
    def bounds_loss(self) -> bool:
        """Return whether the aim is the smallest cost, for what may be lost."""
        return self.max_accuracy_drop is not None or self.max_noise is not None

    @property
    def ratio(self) -> float | None:
        """Return the limit of the cost on the target."""
        return self.latency_ratio if self.latency_ratio is not None else self.instruction_ratio

    @property
    def ratio_name(self) -> str | None:
        """Return the metric that the limit of the cost is of."""
        names = ("latency_ratio", "instruction_ratio")
        return next((name for name in names if getattr(self, name) is not None), None)


class Quantization(Value):
    """Set a scheme with its settings; None leaves a setting to the format's own quantizer.

    `granularity`: one scale per channel of each kernel, or one per kernel; with 4 bits also one per block of 32 weights
    of a channel. `calibration`: how ranges are derived from samples: minimum and maximum, the central share
    `percentile` (of 100) of all values, or the range whose 8 bits lose the least information (Kullback-Leibler
    divergence, Migacz, "8-bit Inference with TensorRT", 2017) or have the smallest mean squared error (Choukroun et
    al., "Low-bit Quantization of Neural Networks", 2019); `auto` makes the file with minimum and maximum, percentile
    and squared error, and takes the one that errs least at the outputs on samples held out. `activations`: signed 8
    bits, as TFLite's are, or unsigned, which is ONNX's default: ONNX Runtime has more kernels for them. `keep_float`:
    layers that stay in float32, names or patterns. `qat`: train the model for int8 first. `rounding`: each weight to
    the nearest step (default), or `adaptive`: to the steps with which each layer's outputs on the calibration samples
    change least. `bias_correction`: change biases so that these outputs keep their means. `equalize`: quantize a
    network of equal outputs whose channels are alike in size; on unless it is trained for int8. `faster_on`: a target
    on which layers that int8 makes slower stay in float32 too, as measured there in TFLite. `keep_int16`: layers that
    have 16-bit activations and 8-bit weights, names or patterns; one that `keep_float` names too stays in float32.
    `budget`: find layers to keep by what they gain and cost.
    """

    scheme: Scheme
    granularity: Granularity | None = None
    calibration: Ranges | None = None
    percentile: float | None = Field(None, gt=50, le=100)
    activations: Literal["signed", "unsigned"] | None = None
    qat: Training | None = None
    rounding: Rounding | None = None
    bias_correction: bool | None = None
    equalize: bool | None = None
    keep_float: Annotated[tuple[str, ...], Field(strict=False)] = ()
    faster_on: str | None = None
    keep_int16: Annotated[tuple[str, ...], Field(strict=False)] = ()
    budget: Budget | None = None

    @model_validator(mode="after")
    def _settings_of_the_scheme(self) -> Self:
        known = SETTINGS[self.scheme]
        for name in type(self).model_fields:
            if name != "scheme" and name not in known and getattr(self, name) not in (None, ()):
                settings = f"it has {', '.join(known)}" if known else "it has no settings"
                raise ValueError(f"{name} means nothing in {self.scheme}: {settings}")
        if self.granularity == "per_block" and self.scheme not in FOUR_BIT:
            raise ValueError(f"per_block means nothing in {self.scheme}: only 4-bit weights have blocks")
        if self.percentile is not None and self.calibration != "percentile":
            raise ValueError("percentile needs calibration: percentile")
        both = sorted(set(self.keep_int16) & set(self.keep_float))
        if both:
            raise ValueError(f"{both[0]} is to stay in float and in 16 bits: name it once")
        if self.qat is not None and self.granularity == "per_tensor":
            raise ValueError("qat trains for one scale a channel: leave granularity out")
        if self.qat is not None and (self.rounding == "adaptive" or self.bias_correction):
            raise ValueError(
                "qat trains weights and biases for nearest rounding: leave rounding and bias_correction out"
            )
        if self.qat is not None and self.budget is not None:
            raise ValueError("a budget tries many files, and qat would train for each: leave one of them out")
        return self

    @property
    def calibrated(self) -> bool:
        """Return whether calibration samples are needed."""
        return self.scheme in CALIBRATED

    @property
    def kept(self) -> tuple[str, ...]:
        """Return the layers that are not in the scheme's own precision."""
        return (*self.keep_float, *self.keep_int16)

    @property
    def wants_int16(self) -> bool:
        """Return whether some layers have 16-bit activations beside others in int8, or may get them."""
        return bool(self.keep_int16) or (self.budget is not None and "int16x8" in self.budget.precisions)

    @property
    def equalized(self) -> bool:
        """Return whether the network's channels are made alike first."""
        return self.calibrated and self.qat is None and self.equalize is not False


def quantization_of(how: Quantization | Scheme) -> Quantization:
    """Expand a scheme name to a scheme with its default settings."""
    return how if isinstance(how, Quantization) else Quantization(scheme=how)
