"""Name an Ethos-U NPU in Vela's terms: for settings, without importing Vela."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from pipeline.records.values import Value

Accelerator = Literal[
    "ethos-u55-32",
    "ethos-u55-64",
    "ethos-u55-128",
    "ethos-u55-256",
    "ethos-u65-256",
    "ethos-u65-512",
    "ethos-u85-128",
    "ethos-u85-256",
    "ethos-u85-512",
    "ethos-u85-1024",
    "ethos-u85-2048",
]


class EthosU(Value):
    """Select the device by Vela's names; `vela --list-configs` and its `vela.ini` list them."""

    accelerator: Accelerator = "ethos-u55-128"
    system_config: str = "Ethos_U55_High_End_Embedded"
    memory_mode: str = "Shared_Sram"

    @model_validator(mode="after")
    def _of_one_family(self) -> Self:
        named = {"system_config", "memory_mode"} <= self.model_fields_set
        if not self.accelerator.startswith("ethos-u55") and not named:
            raise ValueError(f"{self.accelerator} needs system_config and memory_mode: the defaults are an Ethos-U55's")
        return self
