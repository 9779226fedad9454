"""Define the settings of TFLite files."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stages.formats.format import FormatSettings


class TFLiteSettings(FormatSettings):
    """Choose the form of recurrent layers in the file."""

    recurrent: Literal["auto", "fused", "loop", "unrolled"] = Field("auto", description="the form of recurrent layers")
