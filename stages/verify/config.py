"""The settings of verify and evaluate."""

from __future__ import annotations

from pydantic import Field

from pipeline.data.spec import Metric
from pipeline.stage import StageConfig
from pipeline.values import Value


class Tolerance(Value):
    """How far an export's outputs may be from its Keras reference's, for each scheme.

    float32 and float16 compute the same function with other rounding: bounded is the largest difference, relative to
    the largest absolute reference output. Two float32 runtimes add in different orders and fuse normalisations into
    kernels: about 1e-6 a network; 1e-4 leaves room for deep ones and none for a wrong operator. Half-precision weights
    round at 5e-4 each: 1e-2 after many layers. In 8 bits single outputs may be off by whole steps, and sharp softmax
    outputs flip, so the mean cosine is bounded instead. Sound 8-bit exports of the demo's network had 0.999 and more;
    0.95 leaves room for harder networks and catches exports that compute something else. It does not catch every loss
    (saturating kernels cost that network 0.7 points of accuracy at 0.988): that is for `max_accuracy_drop`.
    """

    float32_max_diff: float = Field(1e-4, gt=0)
    float16_max_diff: float = Field(1e-2, gt=0)
    dynamic_min_cosine: float = Field(0.95, ge=-1, le=1)
    int8_min_cosine: float = Field(0.95, ge=-1, le=1)


class VerifyConfig(StageConfig):
    """What an export has to hold against the Keras model it was made of.

    `max_accuracy_drop` bounds the reference's accuracy minus the export's on the whole test split (0.01 is one point);
    `max_mse_ratio` is for regression: the export's mean squared error in parts of the reference's (1.05 is 5 % more).
    Without them both are reported. `samples` is how many test samples outputs are compared on, evenly spread.
    `metrics` are the recipe's `data.metrics` where nothing is said here.
    """

    max_accuracy_drop: float | None = Field(None, ge=0, le=1)
    max_mse_ratio: float | None = Field(None, ge=1)
    samples: int = Field(256, ge=1)
    tolerance: Tolerance = Field(default_factory=Tolerance)
    metrics: tuple[Metric, ...] | None = Field(None, min_length=1)


class EvaluateConfig(StageConfig):
    """Which metrics to compute over the test split (the task's own if none), and how many samples at a time."""

    metrics: tuple[Metric, ...] | None = Field(None, min_length=1)
    batch: int = Field(256, ge=1)
