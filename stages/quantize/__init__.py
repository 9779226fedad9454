"""Quantization schemes: which one a model is exported in, and the calibration data that goes with it."""

from __future__ import annotations

from stages.quantize.calibration import doubts_about
from stages.quantize.config import QuantizeConfig
from stages.quantize.stage import QuantizeStage

__all__ = ["QuantizeConfig", "QuantizeStage", "doubts_about"]
