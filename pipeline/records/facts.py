"""Facts of the artifacts that several rooms speak of: Keras models, quantized models, and what is measured of files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

from pydantic import Field

from pipeline.records.artifacts import Digest, Facts, TensorSpec
from pipeline.records.schemes import Quantization, Scheme
from pipeline.records.values import Value


class KerasFacts(Facts):
    """A Keras model: `macs` are multiply-accumulates of one sample, `sparsity` the share of zeros in its kernels.

    `macs` is a lower bound where `macs_unknown` names layers whose MACs are not known (and why). `macs_size` are the
    shapes, without the batch, of the inputs that leave sizes open: what the counts, and all made-up inputs, stand at.
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
    """A Keras model with the scheme it is to be exported in and the calibration set that goes with it.

    `io` is the type of a TFLite file's inputs and outputs.
    """

    kind: Literal["quantized-model"] = "quantized-model"
    quantization: Quantization
    io: Literal["float32", "int8", "int16"]
    calibration: Digest | None
    params: int
    macs: int
    macs_unknown: tuple[str, ...] = ()
    model_digest: Digest = Field(description="the digest of the keras-model artifact that was quantized")

    @property
    def scheme(self) -> Scheme:
        return self.quantization.scheme


class ExportFacts(Facts):
    """An exported file: its scheme, its inputs and outputs as its runtime has them, how often each operator occurs."""

    scheme: Scheme
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: dict[str, int]


@runtime_checkable
class CountsWeights(Protocol):
    """Facts of a file that tell how many weights it stores in each type."""

    @property
    def scheme(self) -> Scheme:
        """What the file was made in."""

    @property
    def weights(self) -> Mapping[str, int]:
        """How many weights are stored in each type, as numpy calls it."""


@runtime_checkable
class KeepsState(Protocol):
    """Facts of a file that may keep a state from one call to the next."""

    @property
    def keeps_state(self) -> bool:
        """Whether outputs are Keras' only where the state is cleared before each sample."""


class CalibrationFacts(Facts):
    """Preprocessed inputs that stand for the data when activation ranges are measured."""

    kind: Literal["calibration-set"] = "calibration-set"
    samples: int


class EvaluationFacts(Facts):
    """Metrics over a data split; the numbers stand in the record's metrics as well."""

    kind: Literal["evaluation"] = "evaluation"
    samples: int
    metrics: dict[str, float]


class ParityRow(Value):
    """How far one output of an exported file is from Keras' on one set of inputs.

    `inputs` is `test` (real samples) or the name of a made-up set. `sqnr_db` is 200 for equal outputs; `variation_db`
    counts as signal only what differs between samples. `decided` of the samples have one class clearly ahead of all
    others in Keras, and on `decided_agreed` of these the file names the same one.
    `worst_sample` is the place in the set, of `test` the index in the split, where the two differ most.
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
    top1_agreement: float | None = Field(description="None where outputs are no classes")
    top5_agreement: float | None = Field(description="None where there are five classes or fewer")
    variation_db: float | None = None
    decided: int | None = None
    decided_agreed: int | None = None


class ParityFacts(Facts):
    """An exported file beside its Keras reference: a row for each set of inputs and output, real inputs first."""

    kind: Literal["parity-report"] = "parity-report"
    rows: tuple[ParityRow, ...]


class LatencyFacts(Facts):
    """A latency comparison, candidate against baseline, in interleaved rounds of fresh processes."""

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


class CountFacts(Facts):
    """What a target counts or estimates without a clock, candidate and baseline by metric.

    `spread` is the relative difference of two counts of one model that means nothing.
    """

    kind: Literal["device-counts"] = "device-counts"
    target: str
    runtime: str
    estimated: bool
    main: str | None
    candidate: dict[str, float]
    baseline: dict[str, float]
    spread: float
