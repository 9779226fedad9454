"""Define a probe: one layer alone, at its own shape, measured on a device before channels are rounded.

`prune` asks, `probe` makes the models and measures them. A probe holds all that a kernel's choice and its work depend
on: kind, kernel, strides, groups, spatial size and channels; weights play no part.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.records.values import Value

COST_FILE = "cost-table.json"
ProbeKind = Literal["conv", "depthwise", "dense"]
ProbeScheme = Literal["float32", "int8"]  # float16 stores weights in half and computes like float32
Positive = Field(ge=1)


class Probe(Value):
    """Describe a convolution, a depthwise convolution (one filter per channel), or a dense layer over `height` rows.

    `height` and `width` are those of the input; the padding is "same".
    """

    kind: ProbeKind
    inputs: int = Positive
    outputs: int = Positive
    height: int = Field(1, ge=1)
    width: int = Field(1, ge=1)
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    groups: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _channels_fit(self) -> Probe:
        if self.inputs % self.groups or self.outputs % self.groups:
            raise ValueError(f"{self.groups} groups don't divide {self.inputs} and {self.outputs} channels")
        if self.kind == "depthwise" and self.inputs != self.outputs:
            raise ValueError("a depthwise convolution gives as many channels as it takes")
        return self

    @property
    def positions(self) -> int:
        """Return the output's spatial positions, or a dense layer's rows."""
        return -(-self.height // self.strides[0]) * -(-self.width // self.strides[1])

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates of one inference."""
        taps = self.kernel[0] * self.kernel[1]
        each = 1 if self.kind == "depthwise" else self.inputs // self.groups
        return self.positions * taps * each * self.outputs


class Cost(Value):
    """Hold a probe and the cost of one inference, in the table's unit."""

    probe: Probe
    cost: float = Field(ge=0)


class CostTable(Value):
    """Hold costs of probes on one target, in one runtime and scheme.

    `unit` is `instructions` or `nanoseconds`; `spread` is the relative difference between two costs of one probe that
    is not significant.
    """

    schema_version: Literal[1] = 1
    target: str
    runtime: str
    scheme: ProbeScheme
    unit: Literal["instructions", "nanoseconds"]
    spread: float = Field(ge=0)
    costs: tuple[Cost, ...]
