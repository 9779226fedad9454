"""Read what a recipe's `data` names, lazily, and compute a digest for each split without numpy."""

from __future__ import annotations

from pipeline.data.samples import Preprocess, Task
from pipeline.data.source import DataSource, data_source
from pipeline.data.spec import CalibrationPart, DataSpec, HeldOutPart
from pipeline.data.splits import Split, stratified_part

__all__ = [
    "CalibrationPart",
    "DataSource",
    "DataSpec",
    "HeldOutPart",
    "Preprocess",
    "Split",
    "Task",
    "data_source",
    "stratified_part",
]
