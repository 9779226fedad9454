"""What stages exchange: typed artifacts, named by their content.

An artifact is a kind, its files (by digest) and the typed facts of that kind. Its digest covers all three and
nothing else: no time, no path, no key, so that two runs that make the same thing make the same artifact.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from pipeline.records.keys import digest_of
from pipeline.records.schemes import Quantization, Scheme
from pipeline.records.values import Value

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Format = Literal["tflite", "onnx", "c", "vela"]


class FileRef(Value):
    """One file of an artifact: a POSIX-relative name, and the bytes by digest."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    digest: Digest
    size: int = Field(ge=0, description="bytes")
    media_type: str


class TensorSpec(Value):
    """A model's input or output: `shape` with None where a dimension is free, the batch included."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class KerasFacts(Value):
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


class QuantizedFacts(Value):
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


class CalibrationFacts(Value):
    """Preprocessed inputs that stand for the data when activation ranges are measured."""

    kind: Literal["calibration-set"] = "calibration-set"
    samples: int


class LadderTry(Value):
    """A scheme that was tried: its time in parts of float32's on the target, and the accuracy that it lost.

    The time is None where the scheme was too inaccurate to be measured. `kept_float` are layers.
    """

    name: str
    kept_float: tuple[str, ...]
    size_bytes: int
    latency_ratio: float | None
    accuracy_drop: float


class LadderFacts(Value):
    """Which scheme a ladder ended on, all that it tried, in that order, and why it stopped."""

    kind: Literal["ladder-report"] = "ladder-report"
    target: str
    max_accuracy_drop: float
    tries: tuple[LadderTry, ...]
    chosen: str
    why: str


class TFLiteFacts(Value):
    """A TFLite file: I/O types, how often each operator occurs, and how many weights are stored in each type.

    One that `keeps_state` gives what Keras gives only where its variables are cleared before each sample.
    """

    kind: Literal["tflite-model"] = "tflite-model"
    scheme: Scheme
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: dict[str, int]
    weights: dict[str, int] = Field(default_factory=dict)
    keeps_state: bool = False


class CSourceFacts(Value):
    """A TFLite file as C source for microcontrollers: what the array holds, and the arena that it needs."""

    kind: Literal["c-source"] = "c-source"
    scheme: Scheme
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: dict[str, int]
    array_bytes: int
    arena_bytes: int | None = Field(description="None where TensorFlow Lite for Microcontrollers is not installed")
    keeps_state: bool = False


class VelaFacts(Value):
    """A TFLite file compiled for an Ethos-U NPU. Cycles and memory are the compiler's estimates, None without any.

    They are of what runs on the NPU alone; `on_cpu` says what does not, and why.
    """

    kind: Literal["vela-model"] = "vela-model"
    scheme: Scheme
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: dict[str, int]
    accelerator: str
    system_config: str
    memory_mode: str
    npu_operators: int
    cpu_operators: int
    on_cpu: tuple[str, ...] = ()
    estimated_cycles: float | None
    estimated_sram_bytes: float | None


class ONNXFacts(Value):
    """An ONNX file: versions, I/O types, how often each operator occurs, and how many weights each type stores."""

    kind: Literal["onnx-model"] = "onnx-model"
    scheme: Scheme
    opset: int
    ir_version: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: dict[str, int]
    weights: dict[str, int] = Field(default_factory=dict)

    @property
    def transposes(self) -> int:
        return self.operators.get("Transpose", 0)


class PruneFacts(Value):
    """What pruning took away. `equivalence_error` is the largest relative difference from the masked original."""

    kind: Literal["prune-report"] = "prune-report"
    groups: int
    frozen_groups: int
    channels_before: int
    channels_after: int
    equivalence_error: float


class SparsityFacts(Value):
    """Single weights that are zero: `layers` has the share of zeros of each layer's kernels.

    `gzip_bytes` is what gzip makes of all weights, `weight_bytes` what they take as they are.
    """

    kind: Literal["sparsity-report"] = "sparsity-report"
    weights: int
    zeros: int
    layers: dict[str, float]
    weight_bytes: int
    gzip_bytes: int


class StripFacts(Value):
    """What a model was stripped of, a note each.

    `folded` are batch normalisations that went into the layer before them, `kept` those that could not, and why.
    """

    kind: Literal["strip-report"] = "strip-report"
    removed: tuple[str, ...]
    folded: tuple[str, ...]
    kept: tuple[str, ...]


class SensitivityFacts(Value):
    """A scan of accuracy against ratio, group by group, on some samples."""

    kind: Literal["sensitivity-report"] = "sensitivity-report"
    groups: int
    points: int
    samples: int


class TrainingFacts(Value):
    """A fine-tuning: epochs that were run, the one whose weights were kept (from 1), and its validation loss."""

    kind: Literal["training-log"] = "training-log"
    epochs: int
    best_epoch: int
    best_validation_loss: float


class EvaluationFacts(Value):
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


class ParityFacts(Value):
    """An exported file beside its Keras reference: a row for each set of inputs and output, real inputs first."""

    kind: Literal["parity-report"] = "parity-report"
    rows: tuple[ParityRow, ...]


class LatencyFacts(Value):
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


class CountFacts(Value):
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


class CostFacts(Value):
    """What layers alone cost on a target, in `unit`; `spread` is the relative difference that means nothing."""

    kind: Literal["cost-table"] = "cost-table"
    target: str
    runtime: str
    scheme: str
    unit: str
    probes: int
    spread: float


Facts = Annotated[
    KerasFacts
    | QuantizedFacts
    | CalibrationFacts
    | LadderFacts
    | TFLiteFacts
    | ONNXFacts
    | CSourceFacts
    | VelaFacts
    | PruneFacts
    | SparsityFacts
    | StripFacts
    | SensitivityFacts
    | TrainingFacts
    | EvaluationFacts
    | ParityFacts
    | LatencyFacts
    | CountFacts
    | CostFacts,
    Field(discriminator="kind"),
]

Kind = Literal[
    "keras-model",
    "quantized-model",
    "calibration-set",
    "ladder-report",
    "tflite-model",
    "onnx-model",
    "c-source",
    "vela-model",
    "prune-report",
    "sparsity-report",
    "strip-report",
    "sensitivity-report",
    "training-log",
    "evaluation",
    "parity-report",
    "latency-samples",
    "device-counts",
    "cost-table",
]


KIND_OF: Mapping[Format, Kind] = {"tflite": "tflite-model", "onnx": "onnx-model", "c": "c-source", "vela": "vela-model"}


class Artifact(Value):
    """A kind (that of its facts) and files. Equal content means equal digest."""

    files: tuple[FileRef, ...]
    facts: Facts

    @property
    def kind(self) -> Kind:
        return self.facts.kind

    @property
    def digest(self) -> str:
        """`sha256:…` over kind, files and facts."""
        return _digest_of_document(self.model_dump_json())

    @property
    def names(self) -> tuple[str, ...]:
        """What the files are called."""
        return tuple(file.name for file in self.files)

    @property
    def size_bytes(self) -> int:
        """What all files take."""
        return sum(file.size for file in self.files)

    def file(self, name: str) -> FileRef:
        """The file called `name`; KeyError if the artifact has none of that name."""
        for file in self.files:
            if file.name == name:
                return file
        raise KeyError(name)


@cache
def _digest_of_document(document: str) -> str:
    """Canonical JSON is written by slow Python code, and a run asks for its artifacts' digests again and again."""
    return digest_of("artifact", json.loads(document))
