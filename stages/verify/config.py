"""The settings of verify and evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from pipeline.data.spec import Metrics
from pipeline.schemes import Scheme
from pipeline.stage import StageConfig
from pipeline.values import Value


class Bounds(Value):
    """What the figures of one scheme have to hold; null switches a bound off.

    `max_diff` is the largest output difference in parts of the largest absolute reference output, and holds for every
    set of inputs. The others are for real inputs: the mean cosine, the ratio of signal to noise (dB), the share of
    samples of which both name the same class. `adversarial_min_cosine` is the mean cosine on made-up inputs.
    """

    max_diff: float | None = Field(None, gt=0)
    min_cosine: float | None = Field(None, ge=-1, le=1)
    min_sqnr_db: float | None = None
    min_top1_agreement: float | None = Field(None, ge=0, le=1)
    adversarial_min_cosine: float | None = Field(None, ge=-1, le=1)


EIGHT_BIT: Mapping[str, float] = {"min_cosine": 0.95}
DEFAULTS: Mapping[str, Mapping[str, float]] = {
    "float32": {"max_diff": 1e-4},
    "float16": {"max_diff": 1e-2},
    "dynamic": EIGHT_BIT,
    "weight_only": EIGHT_BIT,
    "int8": EIGHT_BIT,
    "int16x8": EIGHT_BIT,
}


class Tolerances(Value):
    """How far an export may be from its Keras reference, for each scheme; what is not said keeps its default.

    float32 and float16 compute the same function with other rounding: bounded is the largest difference. Two float32
    runtimes add in different orders and fuse normalisations into kernels: about 1e-6 a network; 1e-4 leaves room for
    deep ones and none for a wrong operator. Half-precision weights round at 5e-4 each: 1e-2 after many layers. In
    8 bits single outputs may be off by whole steps, and sharp softmax outputs flip, so the mean cosine is bounded
    instead. Sound 8-bit exports of the demo's network had 0.999 and more; 0.95 leaves room for harder networks and
    catches exports that compute something else. It does not catch every loss (saturating kernels cost that network 0.7
    points of accuracy at 0.988): that is for `max_accuracy_drop`. Made-up inputs lie outside the ranges that were
    calibrated, where 8 bits saturate by design: there the figures are told, and not bounded unless you do.
    """

    float32: Bounds = Bounds(**DEFAULTS["float32"])
    float16: Bounds = Bounds(**DEFAULTS["float16"])
    dynamic: Bounds = Bounds(**DEFAULTS["dynamic"])
    weight_only: Bounds = Bounds(**DEFAULTS["weight_only"])
    int8: Bounds = Bounds(**DEFAULTS["int8"])
    int16x8: Bounds = Bounds(**DEFAULTS["int16x8"])

    @model_validator(mode="before")
    @classmethod
    def _over_the_defaults(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {
            scheme: {**DEFAULTS.get(scheme, {}), **bounds} if isinstance(bounds, Mapping) else bounds
            for scheme, bounds in given.items()
        }

    def of(self, scheme: Scheme) -> Bounds:
        """The bounds of a scheme."""
        found = getattr(self, scheme)
        assert isinstance(found, Bounds)
        return found


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
    tolerances: Tolerances = Field(default_factory=Tolerances)
    metrics: Metrics | None = None


class EvaluateConfig(StageConfig):
    """Which metrics to compute over the test split (the task's own if none), and how many samples at a time.

    Of several outputs, `metrics` by output, or a list of which each output takes what its task knows.
    `check_preprocess` looks further where a classifier is no better than chance; the planner sets it for the source.
    """

    metrics: Metrics | None = None
    check_preprocess: bool = False
    batch: int = Field(256, ge=1)
