"""Data splits: what a recipe's `data` means, and a digest for each split that takes no numpy to compute.

A split's digest covers its bytes (decompressed, so that how a file was zipped does not matter), how it was picked,
and how its inputs are preprocessed; never a path or a time. Inputs stay in the type they are stored in and are
preprocessed batch by batch.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.errors import DataError, RecipeError
from pipeline.keys import CHUNK_BYTES, digest_of
from pipeline.store.file_digests import FileDigests
from pipeline.values import Value

# What zipfile raises on damaged archives: the last three for streams, methods and flags that it does not know.
UNREADABLE = (zipfile.BadZipFile, OSError, EOFError, zlib.error, NotImplementedError, RuntimeError)
MEMBERS_HINT = "an npz holds x_NAME (inputs) and y_NAME (integer labels) for each split NAME"


class Preprocess(Value):
    """How stored inputs become the model's: `x * scale + offset`, or one of Keras' named modes, in float32."""

    scale: float = 1.0
    offset: float = 0.0
    mode: Literal["tf", "caffe", "torch"] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.mode is not None and (self.scale, self.offset) != (1.0, 0.0):
            raise ValueError("give either mode or scale and offset")
        return self

    def __call__(self, x: Any) -> Any:
        """Preprocessed float32 inputs; the modes are those of `keras.applications.imagenet_utils`, on RGB 0…255."""
        import numpy as np

        x = np.asarray(x, dtype=np.float32)
        if self.mode == "tf":
            return x / np.float32(127.5) - np.float32(1)
        if self.mode == "torch":
            mean, deviation = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
            return (x / np.float32(255) - mean) / deviation
        if self.mode == "caffe":
            return x[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32)
        return x * np.float32(self.scale) + np.float32(self.offset)


class ValidationPart(Value):
    """A part of another split, held out of it: drawn by the recipe's seed, the same share of each class."""

    from_: Literal["train"] = Field(default="train", alias="from")
    fraction: float = Field(default=0.1, gt=0, lt=1)


class CalibrationPart(Value):
    """Samples that stand for the data in quantization, drawn by the recipe's seed."""

    from_: str = Field(default="train", alias="from")
    take: int = Field(default=256, ge=1)


class DataSpec(Value):
    """The recipe's `data`. Every split but `train` is optional; stages ask for what they need."""

    source: Literal["npz"]
    path: Path
    preprocess: Preprocess = Field(default_factory=Preprocess)
    validation: ValidationPart | str = Field(default_factory=ValidationPart)
    calibration: CalibrationPart = Field(default_factory=CalibrationPart)
    test: str | None = None
    metrics: tuple[Literal["accuracy"], ...] = Field(default=("accuracy",), min_length=1)


@dataclass(frozen=True, slots=True)
class Split:
    """Inputs `x` (N, …) as stored, integer labels `y` (N,), and the preprocessing that goes with them."""

    name: str
    digest: str
    x: Any
    y: Any
    preprocess: Preprocess

    def __len__(self) -> int:
        return len(self.x)

    def inputs(self, start: int = 0, stop: int | None = None) -> Any:
        """Preprocessed inputs of a range of samples, float32 (n, …)."""
        return self.preprocess(self.x[start:stop])

    def take(self, indices: Any) -> tuple[Any, Any]:
        """Preprocessed inputs and labels of the samples at `indices` (n,), in that order."""
        return self.preprocess(self.x[indices]), self.y[indices]

    def batches(self, size: int) -> Iterator[tuple[Any, Any]]:
        """Preprocessed inputs and labels, in order, `size` at a time (the last may be smaller)."""
        for start in range(0, len(self), size):
            yield self.inputs(start, start + size), self.y[start : start + size]


class DataSource:
    """The splits of an npz file. Digests are computed without numpy; arrays are read when a stage asks for them."""

    def __init__(self, spec: DataSpec, path: Path, seed: int, digests: FileDigests | None = None) -> None:
        self.spec = spec
        self.path = path
        self._seed = seed
        self._digests = digests or FileDigests()
        self._splits: dict[str, Split] = {}

    def digest(self, split: str) -> str:
        """The digest of a split (`train`, `validation`, `test`, `calibration`); of an unchanged file, from memory."""
        return self._digest(split, self._digests.remembered)

    def split(self, name: str) -> Split:
        """The arrays of a split; DataError where the file does not hold what the recipe says."""
        digest = self.digest(name)
        if name not in self._splits or self._splits[name].digest != digest:
            self._splits[name] = self._read(name, digest)
            if self._digest(name, self._digests.computed) != digest:
                hint = "something writes to it, or the disk is failing: run again"
                raise DataError("the data changed before or while it was read", where=str(self.path), hint=hint)
        return self._splits[name]

    def _digest(self, split: str, look_up: Callable[[Path, str, Callable[[], str]], str]) -> str:
        pick = self._pick(split)
        members = {part: f"{part}_{pick['split']}.npy" for part in ("x", "y")}
        stored = {
            part: look_up(self.path, member, partial(member_digest, self.path, member))
            for part, member in members.items()
        }
        return digest_of("data", {**pick, **stored, "preprocess": self.spec.preprocess.model_dump(mode="json")})

    def _pick(self, split: str) -> dict[str, Any]:
        """Which samples of which stored split this one is, as plain data."""
        spec, held_out = self.spec, None
        if isinstance(spec.validation, ValidationPart):
            held_out = {"seed": self._seed, "fraction": spec.validation.fraction}
        if split == "train":
            return {"split": "train", "without": held_out}
        if split == "validation":
            return {"split": "train", "only": held_out} if held_out else {"split": spec.validation}
        if split == "calibration":
            part = spec.calibration
            without = held_out if part.from_ == "train" else None
            return {"split": part.from_, "without": without, "take": part.take, "seed": self._seed}
        if spec.test is None:
            raise RecipeError("the recipe names no test split", where="data.test", hint="add `test: test` under data")
        return {"split": spec.test}

    def _read(self, name: str, digest: str) -> Split:
        import numpy as np

        pick = self._pick(name)
        stored = pick["split"]
        x, y = (self._array(f"{part}_{stored}") for part in ("x", "y"))
        y = self._labels(y, f"y_{stored}")
        if len(x) != len(y):
            raise self._error(f"x_{stored} has {len(x)} samples, y_{stored} has {len(y)} labels")
        indices = np.arange(len(y))
        held_out = pick.get("without") or pick.get("only")
        if held_out:
            part = stratified_part(y, held_out["fraction"], held_out["seed"])
            indices = part if pick.get("only") else np.setdiff1d(indices, part)
        if "take" in pick and pick["take"] < len(indices):
            rng = np.random.default_rng(pick["seed"])
            indices = np.sort(rng.choice(indices, pick["take"], replace=False))
        if not len(indices):
            raise self._error(f"the {name} split is empty")
        if x.dtype.kind not in "biuf":
            raise self._error(f"x_{stored} is {x.dtype}: numbers are needed")
        if self.spec.preprocess.mode in ("torch", "caffe") and x.shape[-1] != 3:
            raise self._error(f"preprocess.mode {self.spec.preprocess.mode} is for RGB, x_{stored} is {x.shape[1:]}")
        whole = len(indices) == len(y)
        return Split(name, digest, x if whole else x[indices], y if whole else y[indices], self.spec.preprocess)

    def _array(self, member: str) -> Any:
        import numpy as np

        try:
            with np.load(self.path, allow_pickle=False) as archive:
                return archive[member]
        except (KeyError, ValueError, *UNREADABLE) as error:
            raise self._error(f"{member} can't be read: {error}") from error

    def _labels(self, y: Any, member: str) -> Any:
        import numpy as np

        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
            raise self._error(
                f"{member} is {y.dtype} of shape {y.shape}: integer class labels of shape (N,) are needed"
            )
        if len(y) and y.min() < 0:
            raise self._error(f"{member} holds the label {y.min()}: classes count from 0")
        return y

    def _error(self, what: str) -> DataError:
        return DataError(what, where=str(self.path), hint=MEMBERS_HINT)


def stratified_part(labels: Any, fraction: float, seed: int) -> Any:
    """Sorted indices of about `fraction` of the samples: of each class its share, at least one, and never all."""
    import numpy as np

    rng = np.random.default_rng(seed)
    picked = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        # Each class is left something to train on.
        count = min(max(1, round(len(members) * fraction)), len(members) - 1)
        picked.append(rng.permutation(members)[:count])
    return np.sort(np.concatenate(picked)) if picked else np.empty(0, dtype=np.int64)


def member_digest(path: Path, member: str) -> str:
    """sha256 over the decompressed bytes of one member of a zip file, as hexadecimal digits."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except KeyError as error:
        raise DataError(f"the file holds no {member}", where=str(path), hint=MEMBERS_HINT) from error
    except UNREADABLE as error:
        raise DataError(
            f"the file is damaged: {error}", where=str(path), hint="get it again: it is no whole npz"
        ) from error
    return digest.hexdigest()
