"""Define what the device runner reports about one process: the same from this machine and from a board."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from pipeline.records.values import Json, Value

Milliseconds = Annotated[float, Field(ge=0)]


class OutputDigest(Value):
    """Describe one output of the seeded inference: sha256 of its bytes, and with `--outputs` the bytes themselves."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str
    base64: str | None = None


def digests_of(outputs: Iterable[Json]) -> tuple[OutputDigest, ...]:
    """Return the outputs of a runner's JSON document."""
    return tuple(OutputDigest.model_validate_json(json.dumps(output)) for output in outputs)


class DeviceState(Value):
    """Describe the state of a device; None if it does not tell."""

    governor: str | None = None
    frequency_khz: int | None = None
    temperature_c: float | None = None


class Measurement(Value):
    """Hold the measurement of one process with one model.

    `samples_ns` are all timed inferences, in order; `throughput_per_s` the rates over equal parts of a sustained
    measurement; `notes` say what makes the times doubtful.
    """

    schema_version: Literal[1]
    runtime: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]*$")]  # as its opener calls it
    runtime_version: str
    import_ms: Milliseconds
    load_ms: Milliseconds
    first_inference_ms: Milliseconds
    warmup_calls: int
    steady: bool
    samples_ns: Annotated[tuple[int, ...], Field(min_length=1)]
    peak_memory_bytes: Annotated[int, Field(gt=0)]
    threads: int
    seed: int
    outputs: Annotated[tuple[OutputDigest, ...], Field(min_length=1)]
    cpu_model: str
    machine: str
    system: str
    python: str
    numpy: str
    affinity: tuple[int, ...] = ()
    delegates: tuple[str, ...] = ()
    throughput_per_s: tuple[float, ...] = ()
    device_before: DeviceState = DeviceState()
    device_after: DeviceState = DeviceState()
    notes: tuple[str, ...] = ()

    def output_digests(self) -> tuple[str, ...]:
        """Return the digests of all outputs, in the model's order."""
        return tuple(output.sha256 for output in self.outputs)


def doubts(processes: Sequence[Measurement]) -> tuple[str, ...]:
    """Return what makes the times of these processes doubtful, each reason once."""
    notes = [note for process in processes for note in process.notes]
    unsteady, count = sum(not process.steady for process in processes), len(processes)
    if 2 * unsteady > count:
        what = f"{unsteady} of {count} processes were not steady after warm-up: the machine is busy or throttled"
        notes.insert(0, what)
    return tuple(dict.fromkeys(notes))
