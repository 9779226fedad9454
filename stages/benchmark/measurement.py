"""What the device runner reports about one process, as values: the same from this machine and from a board."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.values import Value

Milliseconds = Annotated[float, Field(ge=0)]


class OutputDigest(Value):
    """One output of the seeded inference: sha256 of its bytes, and with `--outputs` the bytes themselves."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str
    base64: str | None = None


class Measurement(Value):
    """One process with one model. `samples_ns` are all timed inferences, in order."""

    schema_version: Literal[1]
    runtime: Literal["litert", "onnxruntime"]
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

    def output_digests(self) -> tuple[str, ...]:
        """The digests of all outputs, in the model's order."""
        return tuple(output.sha256 for output in self.outputs)
