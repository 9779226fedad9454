"""Define actions, their records, and the manifest of a run: all that is ever recorded about what was done.

An Action is what a result depends on and nothing else; its key names the result. A record is written after everything
that it names, so that its presence is the commit. The run manifest is what the user sees.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, JsonValue

from pipeline.records.artifacts import AnyFacts, Artifact, Digest, FileRef
from pipeline.records.keys import digest_of, digest_of_bytes
from pipeline.records.values import Value

SOURCE, CONTROL, NARROW, BASELINE = (
    "source",
    "control",
    "narrow",
    "baseline",
)  # names of results that recipes do not give
UNSEALED = "sha256:" + "0" * 64  # has the form of a digest, so that a record validates before it has its seal
Status = Literal["hit", "ran", "resumed", "failed", "skipped"]
Verdict = Literal["pass", "fail", "inconclusive", "failed"]
Interval = tuple[float, float]


class Action(Value):
    """Hold the resolved pre-image of one stage run. `inputs` are content digests by name, including data splits."""

    stage: str
    version: int
    axis: str | None
    config: dict[str, JsonValue]
    inputs: dict[str, Digest]
    packages: dict[str, str]
    seed: int | None
    threads: int | None
    device: dict[str, str] | None

    @property
    def key(self) -> str:
        """Return the hexadecimal sha256 of the canonical JSON under the tag `secateur.action.v1`."""
        return digest_of("action", self.model_dump(mode="json")).removeprefix("sha256:")


class Provenance(Value):
    """Record who made a record, when and where: for people, never part of a key."""

    run_id: str
    finished_at: str
    host: str
    secateur: str


class OutputPrint(Value):
    """Summarize one output of a model: its largest absolute value, and some of its values, evenly spaced."""

    scale: float
    values: tuple[float, ...]


class Fingerprint(Value):
    """Record what a model computed on seeded inputs when it was stored.

    `bits` is a digest over all bytes of the outputs, which hold where `environment` is the same (instruction set,
    thread count, version of the framework); elsewhere the values are compared within `tolerance` of their scale.
    """

    environment: str
    bits: Digest
    outputs: tuple[OutputPrint, ...]
    tolerance: float


class ActionRecord(Value):
    """Record a finished action. It exists only when all its outputs do.

    `fingerprints` are those of models in the outputs, by the digest of their file. They are kept in the record and in
    no artifact: kernels round differently on different machines, and no digest or key may depend on that.
    """

    schema_version: Literal[1] = 1
    key: str
    action: Action
    outputs: tuple[Artifact, ...]
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    children: tuple[str, ...]
    fingerprints: dict[Digest, Fingerprint] = Field(default_factory=dict)
    wall_s: float
    provenance: Provenance
    seal: Digest = Field(description="over all of the above: a record that was damaged or edited is not believed")

    @classmethod
    def sealed(cls, **fields: Any) -> ActionRecord:
        """Build a record of these fields with its seal."""
        unsealed = cls(**fields, seal=UNSEALED)
        return unsealed.model_copy(update={"seal": unsealed.computed_seal()})

    def computed_seal(self) -> str:
        """Return what the seal has to be."""
        left_out = set() if self.fingerprints else {"fingerprints"}  # records from before fingerprints existed
        unsealed = self.model_copy(update={"seal": UNSEALED})
        return digest_of_bytes(unsealed.model_dump_json(exclude=left_out).encode())

    def output(self, kind: str) -> Artifact:
        """Return the output of this kind; KeyError if there is none."""
        for artifact in self.outputs:
            if artifact.kind == kind:
                return artifact
        raise KeyError(kind)


class Output(Value):
    """Show an artifact in the run manifest, with its digest written out."""

    kind: str
    digest: Digest
    files: tuple[FileRef, ...]
    facts: AnyFacts

    @classmethod
    def of(cls, artifact: Artifact) -> Output:
        return cls(kind=artifact.kind, digest=artifact.digest, files=artifact.files, facts=artifact.facts)


class StageEntry(Value):
    """Record one action of a run: what became of it and why."""

    id: str
    stage: str
    axis: str | None
    key: str | None
    status: Status
    reason: str
    wall_s: float
    inputs: dict[str, Digest] = Field(default_factory=dict)
    outputs: tuple[Output, ...] = ()
    metrics: dict[str, float] = Field(default_factory=dict)
    children: tuple[str, ...] = ()


class GateResult(Value):
    """Compare a gate with its metric: if the metric has an interval, all of it must be on one side.

    `value` is null if the run does not have the metric.
    """

    metric: str
    op: Literal["max", "min"]
    limit: float
    value: float | None
    interval: Interval | None
    verdict: Literal["pass", "fail", "inconclusive"]


class RunManifest(Value):
    """Hold what `run` returns and `show` prints. Metrics are flat: `NAME.METRIC`.

    `chosen_metrics` are the recipe's `data.metrics`: by output, or a list for all; None if it leaves them to the task.
    """

    schema_version: Literal[1] = 1
    run_id: str
    name: str
    recipe_digest: Digest
    stages: tuple[StageEntry, ...]
    metrics: dict[str, float]
    chosen_metrics: tuple[str, ...] | dict[str, tuple[str, ...]] | None = None
    gates: tuple[GateResult, ...]
    verdict: Verdict
    left_out: dict[str, str] = Field(default_factory=dict)  # what can't be made and the recipe can do without


class PlannedAction(Value):
    """Describe a line of a plan. `key` is null if it depends on an output that is not made yet."""

    id: str
    stage: str
    axis: str | None
    status: Literal["hit", "run", "resume"]
    reason: str
    key: str | None


class Plan(Value):
    """List what a run would do, and why."""

    schema_version: Literal[1] = 1
    actions: tuple[PlannedAction, ...]
