"""Draw the splits of a recipe's data: which stored samples belong to each, by the recipe's seed.

A split's digest covers the content of the stored data, how samples were picked, what they are made into, and how inputs
are preprocessed; never a path or a time. Computing it requires neither numpy nor TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.data.declaration import Opening, every_source, source_named
from pipeline.data.samples import Preprocess, Task
from pipeline.data.spec import DataSpec, HeldOutPart
from pipeline.data.splits import Picked, Split, at, held_out_part
from pipeline.data.table import Shapes, Table, first_of
from pipeline.data.targets import tasks_and_targets
from pipeline.errors import DataError, RecipeError, listed, numbered
from pipeline.records.keys import digest_of
from pipeline.store.file_digests import FileDigests

PEEKED_BYTES = 512


class DataSource:
    """Serve the splits `train`, `validation`, `test` and `calibration`, and any other stored split by its name.

    `path` is the file or folder, or the recipe's folder for Python functions; `threads` is the number that decoding may
    use (0: no limit).
    """

    def __init__(
        self, spec: DataSpec, path: Path, seed: int, digests: FileDigests | None = None, threads: int = 0
    ) -> None:
        self.spec = spec
        self.path = path
        self._seed = seed
        opening = Opening(path, spec.settings, spec.unlabelled, digests or FileDigests(), threads)
        self._reader = source_named(spec.source).reader(opening)
        self._splits: dict[str, Split] = {}

    def digest(self, split: str) -> str:
        """Return the digest of a split; for unchanged files, the remembered one."""
        return self._digest(split, anew=False)

    def shapes(self) -> tuple[Shapes, ...]:
        """Return the shapes of samples by input name ("" if inputs have none) without reading any: each distinct one.

        Those of `train` come first. Empty if it can't be told. DataError if the file is damaged.
        """
        parts = (self.spec.validation, self.spec.test)
        stored = ["train", *(part if isinstance(part, str) else part.from_ for part in parts if part is not None)]
        every = [shapes for name in stored if (shapes := self._reader.shapes(name))]
        return tuple(shapes for index, shapes in enumerate(every) if shapes not in every[:index])

    def split(self, name: str) -> Split:
        """Return a split, ready to be read; DataError if the data does not hold what the recipe says."""
        digest = self.digest(name)
        if name not in self._splits or self._splits[name].digest != digest:
            self._splits[name] = self._read(name, digest)
            # The first digest may be a remembered one, and sizes and times do not show every change.
            if self._digest(name, anew=True) != digest:
                hint = "something writes to it, or the disk is failing: run again"
                raise DataError("the data changed before or while it was read", where=str(self.path), hint=hint)
        return self._splits[name]

    def _digest(self, split: str, *, anew: bool) -> str:
        pick = self._pick(split)
        content = self._reader.content(pick["split"], anew=anew)
        form = {"preprocess": _plain(self.spec.preprocess), **self.spec.form()}
        return digest_of("data", {**pick, **content, **form})

    def _pick(self, split: str) -> dict[str, Any]:
        """Describe as plain data which samples of which stored split this one consists of."""
        spec, drawn = self.spec, self._drawn(self.spec.validation)
        drawn_from = spec.validation.from_ if isinstance(spec.validation, HeldOutPart) else None
        tested = {"test": part} if (part := self._drawn(spec.test)) else {}
        if split == "test":
            split = spec.judge_on
        if split == "train":
            return {"split": "train", "without": drawn if drawn_from == "train" else None, **tested}
        if split == "validation":
            if drawn is None:
                return {"split": spec.validation}
            return {"split": drawn_from, "only": drawn, **(tested if drawn_from == "train" else {})}
        if split == "calibration":
            return self._calibration() | {"take": spec.calibration.take, "seed": self._seed}
        if split != "test":
            return {"split": split}
        if spec.test is None:
            raise RecipeError("the recipe names no test split", where="data.test", hint="add `test: test` under data")
        if tested:
            return {"split": "train", "only_test": tested["test"]}
        return {"split": spec.test, "without": drawn} if drawn_from == spec.test else {"split": spec.test}

    def _calibration(self) -> dict[str, Any]:
        whose, spec = self.spec.calibration.from_, self.spec
        named = {"train": True, "validation": True, "test": spec.test is not None}
        return self._pick(whose) if named.get(whose) else {"split": whose, "without": None}

    def _drawn(self, part: HeldOutPart | str | None) -> dict[str, Any] | None:
        return {"seed": self._seed, "fraction": part.fraction} if isinstance(part, HeldOutPart) else None

    def _read(self, name: str, digest: str) -> Split:
        pick = self._pick(name)
        table = self._reader.read(pick["split"])
        task, targets = tasks_and_targets(table.targets, self.spec.task, table.task, self._where(pick["split"]))
        self._check_colors(table)
        count = len(_first(table))
        indices = picked_rows(pick, count, _class_labels(task, targets))
        indices, notes = self._decodable(name, table, indices)
        if not len(indices):
            hint = f"{numbered(count, 'stored sample')}: too few to draw it from" if len(pick) > 1 else None
            raise DataError(f"the {name} split is empty", where=str(self.path), hint=hint)
        inputs: Any
        if len(indices) == count:
            inputs = table.inputs
        elif isinstance(table.inputs, Mapping):
            inputs = {input_name: _some(samples, indices) for input_name, samples in table.inputs.items()}
        else:
            inputs = _some(table.inputs, indices)
        if targets is not None and len(indices) < count:
            targets = at(targets, indices)
        rows = None if len(indices) == count else indices
        preprocess, unlabelled = self.spec.preprocess, self.spec.unlabelled
        return Split(
            name, digest, inputs, targets, preprocess, task, table.classes, notes, rows, said_unlabelled=unlabelled
        )

    def _decodable(self, name: str, table: Table, indices: Any) -> tuple[Any, tuple[str, ...]]:
        """Return indices of decodable samples; all of them if none may fail: then reading one reports it."""
        import numpy as np

        allowed = table.may_fail
        if table.undecodable is None or not allowed:
            return indices, ()
        failed = table.undecodable(indices)
        if not failed:
            return indices, ()
        share = len(failed) / len(indices)
        what = f"{len(failed)} of {len(indices)} images of {name} can't be decoded: {first_of(failed)}"
        if share > allowed:
            what += f"; {share:.2%} is more than the {allowed:.2%} that data.max_undecodable allows"
            raise DataError(what, where=str(self.path), hint="mend them or take them out")
        return np.setdiff1d(indices, list(failed)), (f"{what}; they are left out",)

    def _check_colors(self, table: Table) -> None:
        inputs = table.inputs if isinstance(table.inputs, Mapping) else {"": table.inputs}
        for name, samples in inputs.items():
            rule = self.spec.preprocess
            used = rule if isinstance(rule, Preprocess) else rule.get(name, Preprocess())
            if used.mode in ("torch", "caffe") and samples.shape[-1] != 3:
                what = f"preprocess.mode {used.mode} is for RGB, samples are {tuple(samples.shape[1:])}"
                raise DataError(what, where=self._where(name))

    def _where(self, part: str) -> str:
        return f"{self.path}: {part}" if part else str(self.path)


def picked_rows(pick: Mapping[str, Any], count: int, labels: Any) -> Any:
    """Return sorted indices, among `count` stored samples, of those `pick` describes; stratified by class `labels`."""
    import numpy as np

    indices = np.arange(count)
    tested = pick.get("test") or pick.get("only_test")
    if tested:  # drawn first: the test samples do not depend on how the rest is divided
        # With a stream of its own: from the same one both parts would be drawn by the same permutation.
        part = held_out_part(labels, count, tested["fraction"], [tested["seed"], 1])
        if "only_test" in pick:
            return _taken(pick, part)
        indices = np.setdiff1d(indices, part)
    held_out = pick.get("without") or pick.get("only")
    if held_out:
        rest = None if labels is None else labels[indices]
        part = indices[held_out_part(rest, len(indices), held_out["fraction"], held_out["seed"])]
        indices = part if pick.get("only") else np.setdiff1d(indices, part)
    return _taken(pick, indices)


def _taken(pick: Mapping[str, Any], indices: Any) -> Any:
    import numpy as np

    if "take" not in pick or pick["take"] >= len(indices):
        return indices
    return np.sort(np.random.default_rng(pick["seed"]).choice(indices, pick["take"], replace=False))


def data_source(
    spec: DataSpec, folder: Path, seed: int, digests: FileDigests | None = None, threads: int = 0
) -> DataSource:
    """Open the data of a recipe in `folder`; RecipeError if the file, folder or module that it names does not exist."""
    path = source_named(spec.source).place(spec.settings, folder)
    if path.is_file():
        _require_source(spec.source, path)
    return DataSource(spec, path, seed, digests, threads)


def _require_source(source: str, path: Path) -> None:
    """Raise RecipeError if the first bytes of a file clearly belong to another kind of source."""
    with path.open("rb") as file:
        begin = file.read(PEEKED_BYTES)
    own = source_named(source).recognises
    if own is not None and own(begin):
        return
    likely = [name for name, other in every_source().items() if other.recognises and other.recognises(begin)]
    if likely:
        what = f"data.source is {source}, and {path.name} looks like {listed(likely, 'or')}"
        choices = listed((f"`source: {name}`" for name in likely), "or")
        raise RecipeError(what, where="data.source", hint=f"say {choices}, or name another file")


def _plain(preprocess: Preprocess | Mapping[str, Preprocess]) -> dict[str, Any]:
    if isinstance(preprocess, Preprocess):
        return preprocess.model_dump(mode="json")
    return {name: rule.model_dump(mode="json") for name, rule in preprocess.items()}


def _class_labels(task: Task | Mapping[str, Task], targets: Any) -> Any:
    """Return the class numbers to stratify a part by (with several outputs, those of the first by name), or None."""
    if not isinstance(task, Mapping):
        return targets if task == "classes" else None
    return next((targets[name] for name in sorted(task) if task[name] == "classes"), None)


def _first(table: Table) -> Any:
    return next(iter(table.inputs.values())) if isinstance(table.inputs, Mapping) else table.inputs


def _some(samples: Any, indices: Any) -> Any:
    """Select samples by index: arrays at once, lazily read samples on demand."""
    import numpy as np

    return samples[indices] if isinstance(samples, np.ndarray) else Picked(samples, indices)
