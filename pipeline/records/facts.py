"""Define facts that several packages share: Keras models, quantized models, and measurements of files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Protocol, runtime_checkable

from pydantic import Field

from pipeline.errors import first_few
from pipeline.records.artifacts import Digest, Facts, TensorSpec
from pipeline.records.schemes import Quantization, Scheme
from pipeline.records.values import Value


class KerasFacts(Facts):
    """Describe a Keras model: `macs` counts multiply-accumulates of one sample, `sparsity` is the share of zeros.

    `macs` is a lower bound if `macs_unknown` names layers whose MACs are not known (and why). `macs_size` holds the
    shapes, without the batch, of inputs with free sizes: the counts and all synthetic inputs use them.
    """

    kind: Literal["keras-model"] = "keras-model"
    params: int
    macs: int
    macs_unknown: tuple[str, ...] = ()
    macs_size: dict[str, tuple[int, ...]] | None = None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sparsity: float


class QuantizedFacts(Facts):
    """Describe a Keras model with the scheme to export it in and the calibration set that goes with it.

    `io` is the type of a TFLite file's inputs and outputs. `rewrites` say how the stored model differs from the one
    that was quantized, with outputs equal on calibration samples but for `rewrites_difference`, relative.
    """

    kind: Literal["quantized-model"] = "quantized-model"
    quantization: Quantization
    io: Literal["float32", "int8", "int16"]
    calibration: Digest | None
    params: int
    macs: int
    macs_unknown: tuple[str, ...] = ()
    model_digest: Digest = Field(description="the digest of the keras-model artifact that was quantized")
    rewrites: tuple[str, ...] = ()
    rewrites_difference: float = 0.0

    @property
    def scheme(self) -> Scheme:
        return self.quantization.scheme

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what differs from the model that was quantized, in a sentence; nothing if it is the same."""
        if not self.rewrites:
            return ()
        changed = first_few(list(dict.fromkeys(text.partition(":")[0] for text in self.rewrites)))
        return (
            f"a network of equal outputs (to {self.rewrites_difference:.0e}) is quantized, with changes at {changed}",
        )


class ExportFacts(Facts):
    """Describe an exported file: its scheme, its runtime's view of inputs and outputs, and operator counts."""

    scheme: Scheme
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: dict[str, int]


@runtime_checkable
class CountsWeights(Protocol):
    """Mark facts of a file that tell how many weights it stores in each type."""

    @property
    def scheme(self) -> Scheme:
        """Return the scheme of the file."""

    @property
    def weights(self) -> Mapping[str, int]:
        """Return how many weights are stored in each type, by numpy's name of it."""


@runtime_checkable
class KeepsState(Protocol):
    """Mark facts of a file that may keep state from one call to the next."""

    @property
    def keeps_state(self) -> bool:
        """Return whether outputs match Keras only if the state is cleared before each sample."""


@runtime_checkable
class HasNotes(Protocol):
    """Mark facts of a result that a reader of the run's numbers must know about."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Return sentences, shown below the table of the run whenever the result is part of it."""


class CalibrationFacts(Facts):
    """Describe preprocessed inputs that represent the data when activation ranges are measured."""

    kind: Literal["calibration-set"] = "calibration-set"
    samples: int


class EvaluationFacts(Facts):
    """Hold metrics over a data split; the record's metrics hold the same numbers."""

    kind: Literal["evaluation"] = "evaluation"
    samples: int
    metrics: dict[str, float]


class ParityRow(Value):
    """Compare one output of an exported file with Keras' on one set of inputs.

    `inputs` is `test` (real samples) or the name of a synthetic set. `sqnr_db` is 200 for equal outputs; `variation_db`
    counts as signal only what differs between samples.  In `decided` samples Keras puts one class clearly ahead of all
    others, and on `decided_agreed` of these the file predicts the same class. `worst_sample` is the place in the set,
    of `test` the index in the split, where the two differ most.
    """

    inputs: str
    output: str
    samples: int
    reference_max_abs: float
    worst_sample: int
    max_abs_diff: float
    mean_abs_diff: float
    sqnr_db: float
    cosine: float
    top1_agreement: float | None = Field(description="None where outputs are not classes")
    top5_agreement: float | None = Field(description="None where there are five classes or fewer")
    variation_db: float | None = None
    decided: int | None = None
    decided_agreed: int | None = None


class ParityFacts(Facts):
    """Compare an exported file with its Keras reference: a row for each set of inputs and output, real inputs first."""

    kind: Literal["parity-report"] = "parity-report"
    rows: tuple[ParityRow, ...]


class OperatorLoss(Value):
    """Name an int8 operator that costs more on a target than the same one in float32, and what helps.

    Costs are in the target's unit, instructions or nanoseconds.
    """

    kind: str
    layers: tuple[str, ...]
    cost: float
    float_cost: float = Field(gt=0)
    helps: str


Losses = Annotated[
    tuple[OperatorLoss, ...] | None, Field(description="most costly first; None where no operator was measured alone")
]


class LatencyFacts(Facts):
    """Compare the latency of candidate and baseline in interleaved rounds of fresh processes."""

    kind: Literal["latency-samples"] = "latency-samples"
    target: str
    runtime: str
    rounds: int
    samples_per_side: int
    candidate_p50_ms: float
    candidate_p90_ms: float
    baseline_p50_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    losses: Losses = None


class CountFacts(Facts):
    """Hold what a target counts or estimates without a clock, candidate and baseline by metric.

    `spread` is the largest relative difference between counts of the same model that is not significant.
    """

    kind: Literal["device-counts"] = "device-counts"
    target: str
    runtime: str
    estimated: bool
    main: str | None
    candidate: dict[str, float]
    baseline: dict[str, float]
    spread: float
    losses: Losses = None
