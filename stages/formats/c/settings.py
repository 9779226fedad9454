"""Define the settings of C source."""

from __future__ import annotations

from pydantic import Field

from stages.formats.tflite.settings import TFLiteSettings


class CSettings(TFLiteSettings):
    """Set the options of the TFLite file, and the names in C."""

    symbol: str = Field("model", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$", description="what names in C begin with")
