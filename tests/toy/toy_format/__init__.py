"""Define a third-party format: weights as npz, computed with NumPy. Nothing outside this folder knows of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pipeline.records.metrics import Metric
from stages.formats.conversion import exported_apart
from stages.formats.format import FormatSettings, LoadedModel
from toy_format.facts import ToyFacts


class ToySettings(FormatSettings):
    """Hold the settings of toy files."""

    toy_note: str = ""


class Toy:
    name: ClassVar[str] = "toy"
    kind: ClassVar[str] = "toy-model"
    settings: ClassVar[type[FormatSettings]] = ToySettings
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "numpy")
    runtime_packages: ClassVar[tuple[str, ...]] = ("numpy",)
    metrics: ClassVar[tuple[Metric, ...]] = ()
    made_from: ClassVar[str | None] = None
    file_counts: ClassVar[tuple[int, ...]] = (1,)
    imports: ClassVar[tuple[str, ...]] = ("toy_format.convert",)
    opener: ClassVar[str] = "toy_format.opener"

    def recognises(self, data: Any) -> bool:
        return bool(data[:4] == b"PK\x03\x04" and b"toy.npy" in data[:1024])

    def beside(self, model: Path) -> tuple[Path, ...]:
        return ()

    def refuses(self, how: Any) -> str | None:
        return None if how.scheme == "float32" else "a toy has float32 alone"

    def convert(self, context: Any, quantized: Any) -> Any:
        files = {"model.npz": "application/x-npz"}
        return exported_apart(context, quantized, "toy_format.convert:convert_here", ToyFacts, files)

    def load(self, model: bytes | Path, threads: int = 1) -> LoadedModel:
        from toy_format.convert import load

        return load(model if isinstance(model, bytes) else model.read_bytes())


class Unmakable(Toy):
    """Need a package that nobody has."""

    name: ClassVar[str] = "unmakable"
    kind: ClassVar[str] = "unmakable-model"
    extra_package: ClassVar[str] = "toy-that-nobody-has"
