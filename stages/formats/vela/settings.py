"""Define the settings of files that Vela compiles."""

from __future__ import annotations

from pydantic import Field

from stages.formats.tflite.settings import TFLiteSettings
from stages.formats.vela.accelerator import EthosU


class VelaSettings(TFLiteSettings):
    """Set the options of the TFLite file, and the NPU."""

    vela: EthosU = Field(default_factory=EthosU)
