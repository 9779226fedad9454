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

CALIBRATED: tuple[Scheme, ...] = ("int8", "int16x8")  # schemes whose ranges are measured on samples
FOUR_BIT: tuple[Scheme, ...] = ("int4_weight_only", "int4_dynamic")
SETTINGS: Mapping[Scheme, tuple[str, ...]] = {
    "float32": (),
    "float16": (),
    "dynamic": ("granularity", "keep_float"),
    "weight_only": ("granularity", "keep_float"),
    "int8": (
        *("granularity", "keep_float", "calibration", "percentile", "activations", "qat"),
        *("rounding", "bias_correction", "equalize", "faster_on"),
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
    on which layers that int8 makes slower stay in float32 too, as measured there in TFLite.
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
        if self.qat is not None and self.granularity == "per_tensor":
            raise ValueError("qat trains for one scale a channel: leave granularity out")
        if self.qat is not None and (self.rounding == "adaptive" or self.bias_correction):
            raise ValueError(
                "qat trains weights and biases for nearest rounding: leave rounding and bias_correction out"
            )
        return self

    @property
    def calibrated(self) -> bool:
        """Return whether calibration samples are needed."""
        return self.scheme in CALIBRATED

    @property
    def equalized(self) -> bool:
        """Return whether the network's channels are made alike first."""
        return self.calibrated and self.qat is None and self.equalize is not False


def quantization_of(how: Quantization | Scheme) -> Quantization:
    """Expand a scheme name to a scheme with its default settings."""
    return how if isinstance(how, Quantization) else Quantization(scheme=how)
