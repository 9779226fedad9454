"""Define the settings of the benchmark stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from pipeline.contracts.stage import StageConfig

TargetName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
ENOUGH_ROUNDS = 10  # intervals over fewer rounds are unreliable


class BenchmarkConfig(StageConfig):
    """Set where and how long to measure. More rounds narrow the interval; more seconds hardly do.

    `rounds` are pairs of fresh processes, one of the candidate and one of the baseline; `seconds` is how long each
    process takes samples; `threads` is what the runtime's kernels may use. Targets that count, such as cortex-a72, need
    neither rounds nor seconds, and run one thread. `secateur target list` names the targets; `unsupported` says what
    happens to a format that a target can't take. `advise` also measures each operator of an int8 TFLite file alone,
    beside the same one in float32; a run does so by itself for files that turn out slower than float32.
    """

    targets: tuple[TargetName, ...] = Field(("cpu",), min_length=1)
    rounds: int = Field(ENOUGH_ROUNDS, ge=1)
    seconds: float = Field(0.1, gt=0)
    threads: int = Field(1, ge=1)
    unsupported: Literal["refuse", "skip"] = "refuse"
    advise: bool = False

    def by_element(self) -> Mapping[str, Self]:
        """Return these settings for each target separately.

        `unsupported` keeps its default: it decides about the run and changes no measurement.
        """
        alone = {"unsupported": "refuse"}
        return {name: self.model_copy(update={"targets": (name,), **alone}) for name in self.targets}

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.targets)) != len(self.targets):
            raise ValueError("each target can be named once")
        return self
