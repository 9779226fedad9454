"""Define the settings of verify and evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from pipeline.contracts.stage import StageConfig
from pipeline.data.spec import Metrics
from pipeline.records.schemes import Scheme
from pipeline.records.values import Json, Value


class Bounds(Value):
    """Bound the figures of one scheme; null switches a bound off.

    `max_diff` is the largest output difference relative to the largest absolute reference output, for every set of
    inputs. The others are for real inputs: the mean cosine, the ratio of signal to noise (dB), the share of samples for
    which both predict the same class, and the same share of those samples that the reference decides clearly (by a
    tenth of its largest output). Shares have an interval (95 %), and fail if all of it is below the bound.
    `adversarial_min_cosine` is the mean cosine on synthetic inputs.
    """

    max_diff: float | None = Field(None, gt=0)
    min_cosine: float | None = Field(None, ge=-1, le=1)
    min_sqnr_db: float | None = None
    min_top1_agreement: float | None = Field(None, ge=0, le=1)
    min_decided_agreement: float | None = Field(None, ge=0, le=1)
    adversarial_min_cosine: float | None = Field(None, ge=-1, le=1)


EIGHT_BIT: Mapping[str, float] = {"min_cosine": 0.95, "min_sqnr_db": 12.0, "min_decided_agreement": 0.9}
FOUR_BIT: Mapping[str, float] = {"min_cosine": 0.8, "min_sqnr_db": 4.0, "min_decided_agreement": 0.7}
FINER: Mapping[str, float] = {**EIGHT_BIT, "min_sqnr_db": 18.0}  # 8 bits in weights alone
DEFAULTS: Mapping[str, Mapping[str, float]] = {
    "float32": {"max_diff": 1e-4},
    "float16": {"max_diff": 1e-2},
    "dynamic": EIGHT_BIT,
    "weight_only": FINER,
    "int8": EIGHT_BIT,
    "int16x8": FINER,
    "int4_weight_only": FOUR_BIT,
    "int4_dynamic": FOUR_BIT,
}


class Tolerances(Value):
    """Set how far an export may be from its Keras reference, for each scheme; omitted bounds keep their default.

    float32 and float16 compute the same function with other rounding: the largest difference is bounded. Two float32
    runtimes add in different orders and fuse normalizations into kernels: about 1e-6 per network; 1e-4 leaves room for
    deep ones and none for a wrong operator. Half-precision weights round at 5e-4 each: 1e-2 after many layers. In 8
    bits individual outputs may be off by whole steps, and sharp softmax outputs flip, so the error as a whole is
    bounded instead: by its power relative to the outputs', and by the classes that the reference decides clearly.
    docs/design/parity.md has the measurements of sound and broken exports; `max_accuracy_drop` covers smaller losses.
    Setting `min_cosine` makes it the criterion: the other two then apply only if they are set too. Synthetic inputs lie
    outside the calibrated ranges, where 8 bits saturate by design: there the figures are reported, and not bounded
    unless you do.
    """

    float32: Bounds = Bounds(**DEFAULTS["float32"])
    float16: Bounds = Bounds(**DEFAULTS["float16"])
    dynamic: Bounds = Bounds(**DEFAULTS["dynamic"])
    weight_only: Bounds = Bounds(**DEFAULTS["weight_only"])
    int8: Bounds = Bounds(**DEFAULTS["int8"])
    int16x8: Bounds = Bounds(**DEFAULTS["int16x8"])
    int4_weight_only: Bounds = Bounds(**DEFAULTS["int4_weight_only"])
    int4_dynamic: Bounds = Bounds(**DEFAULTS["int4_dynamic"])

    @model_validator(mode="before")
    @classmethod
    def _over_the_defaults(cls, settings: Json) -> Json:
        if not isinstance(settings, Mapping):
            return settings
        return {
            scheme: {**_kept(scheme, bounds), **bounds} if isinstance(bounds, Mapping) else bounds
            for scheme, bounds in settings.items()
        }

    def of(self, scheme: Scheme) -> Bounds:
        """Return the bounds of a scheme."""
        bounds = getattr(self, scheme)
        assert isinstance(bounds, Bounds)
        return bounds


def _kept(scheme: str, named: Mapping[str, Any]) -> dict[str, float]:
    """Return the defaults that remain next to the bounds that are set."""
    dropped = {"min_sqnr_db", "min_decided_agreement"} if "min_cosine" in named else set()
    return {name: bound for name, bound in DEFAULTS.get(scheme, {}).items() if name not in dropped}


class VerifyConfig(StageConfig):
    """Set what an export must meet compared with its Keras model.

    `max_accuracy_drop` bounds the reference's accuracy minus the export's on the whole test split (0.01 is one point);
    `max_mse_ratio` is for regression: the export's mean squared error relative to the reference's (1.05 is 5 % more).
    Without them both are reported. `samples` is how many test samples outputs are compared on, evenly spaced. `metrics`
    are by default the recipe's `data.metrics`. `data_split` is whose samples are meant.
    """

    max_accuracy_drop: float | None = Field(None, ge=0, le=1)
    max_mse_ratio: float | None = Field(None, ge=1)
    samples: int = Field(256, ge=1)
    tolerances: Tolerances = Field(default_factory=Tolerances)
    metrics: Metrics | None = None
    data_split: Literal["test", "validation"] = "test"


class EvaluateConfig(StageConfig):
    """Set which metrics to compute over the test split (the task's own if none), and how many samples at a time.

    With several outputs, `metrics` are by output, or a list of which each output takes those of its task.
    `check_preprocess` investigates a classifier that is no better than chance; the planner sets it for the source.
    """

    metrics: Metrics | None = None
    check_preprocess: bool = False
    batch: int = Field(256, ge=1)
