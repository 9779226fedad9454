"""Resolve the operands of `compare` and `bench`: a file, else a run, else an artifact, as named model files.

`RUN:FORMAT/SCHEME` is one export of a run. An unknown name is refused with the nearest known ones.
"""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from tempfile import mkdtemp

from pipeline.errors import RecipeError, StoreError, listed
from pipeline.recipe.errors import nearest
from pipeline.records.artifacts import Artifact, Kind
from pipeline.records.facts import ExportFacts
from pipeline.records.keys import digest_of_file
from pipeline.records.manifest import ActionRecord, Output, RunManifest, StageEntry
from pipeline.reports.command_lines import secateur
from pipeline.store import Store
from pipeline.store.files import PROCESS, store_errors
from pipeline.store.lineage import digests_named, makers
from stages.commands.comparing.compared import compared, qualities
from stages.formats.format import Runs
from stages.formats.registry import format_of_kind, formats, kinds_that, model_digest, recognise, whole_model

NEAREST = 3
SHOWN_DIGITS = 12


@dataclass(frozen=True)
class Model:
    """Hold a model file. `label` is `format/scheme` of a run's export, else the file's name.

    `digest` covers the file's bytes and, for a large model, those of the data files `beside` it. `quality` holds
    accuracies and similar metrics that are already known, and `tested_on` the digest of the data that they were
    measured on.
    """

    label: str
    kind: Kind
    path: Path
    digest: str
    quality: Mapping[str, float] = field(default_factory=dict)
    tested_on: str | None = None
    beside: tuple[Path, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in (self.path, *self.beside))

    @property
    def title(self) -> str:
        """Return the name used in errors: which file and which bytes."""
        return f"{self.label} {self.digest[: len('sha256:') + SHOWN_DIGITS]}"


@dataclass(frozen=True)
class Operand:
    """Hold what one name refers to: one model, or all exports of a run."""

    name: str
    models: tuple[Model, ...]
    run: RunManifest | None = None


def find_operand(name: str, open_store: Callable[[], Store]) -> Operand:
    """Return the models that `name` refers to; RecipeError if there are none, or if it is ambiguous.

    The store is opened only where `name` is not a file.
    """
    path = Path(name).expanduser()
    if path.is_file():
        file_format = recognise(path)
        kind, beside = file_format.kind, file_format.beside(path)
        digest = model_digest(digest_of_file(path), {file.name: digest_of_file(file) for file in beside})
        return Operand(name, (Model(path.name, kind, path, digest, beside=beside),))
    if path.is_dir():
        raise RecipeError("a folder is not a model", where=name, hint="name a .tflite or .onnx file in it")
    store = open_store()
    run, _, wanted = (name, "", "") if name.startswith("sha256:") else name.partition(":")
    manifest = store.runs.get(run)
    if manifest is not None:
        return _of_run(name, manifest, store, wanted)
    digests = makers(store)
    matches = digests_named(name, digests)
    if len(matches) == 1:
        return Operand(name, (_of_artifact(*digests[matches[0]], store),))
    if matches:
        hint = "give more digits: " + ", ".join(digest[:23] for digest in matches)
        raise RecipeError(f"{len(matches)} artifacts begin with {name}", where=str(store.root), hint=hint)
    raise RecipeError(
        f"{name!r} is not a file, a run or an artifact", where=str(store.root), hint=_nearest(path, run, store)
    )


def _nearest(path: Path, run: str, store: Store) -> str:
    """Suggest files of the same folder and runs with a similar name; else how to list what exists."""
    folder = path.parent if path.parent.is_dir() else Path()
    files = [str(entry) for entry in folder.iterdir() if entry.suffix in (".tflite", ".onnx")]
    close = get_close_matches(str(path), files, NEAREST, cutoff=0.6) + get_close_matches(run, store.runs.ids(), NEAREST)
    if close:
        return "the nearest are " + ", ".join(close[:NEAREST])
    return f"{secateur('store', 'ls', store=store.root)}   lists runs and artifacts"


def _runnable() -> str:
    """Return the names of the formats whose files are compared."""
    return listed((file_format.name for file_format in formats().values() if isinstance(file_format, Runs)), "or")


def _of_run(name: str, manifest: RunManifest, store: Store, wanted: str) -> Operand:
    # Without the source's own exports, which the planner adds as what others are measured against.
    exports = [entry for entry in manifest.stages if entry.stage == "export" and not entry.id.startswith("baseline:")]
    by_axis = {
        str(entry.axis): entry for entry in exports if entry.outputs and entry.outputs[0].kind in kinds_that(Runs)
    }
    if not by_axis:
        what = f"run {manifest.run_id} has no {_runnable()} files"
        hint = f"{secateur('show', manifest.run_id, store=store.root)}   tells how far it came"
        raise RecipeError(what, where=str(store.root), hint=hint)
    if wanted and wanted not in by_axis:
        what = f"run {manifest.run_id} has no {_runnable()} export {wanted!r}"
        raise RecipeError(what, hint=nearest(wanted, sorted(by_axis)))
    chosen = {wanted: by_axis[wanted]} if wanted else by_axis
    models = (_of_export(label, entry, manifest, store) for label, entry in chosen.items())
    return Operand(name, tuple(models), manifest)


def _of_export(label: str, entry: StageEntry, manifest: RunManifest, store: Store) -> Model:
    named = {name: f"{label}.{compared()[name].name}" for name in qualities()}
    quality = {name: manifest.metrics[full] for name, full in named.items() if full in manifest.metrics}
    checks = [other for other in manifest.stages if other.stage == "verify" and other.axis == label]
    tested_on = next((check.inputs.get("test") for check in checks), None)
    return _stored(label, entry.outputs[0], store, quality, tested_on)


def _of_artifact(record: ActionRecord, artifact: Artifact, store: Store) -> Model:
    if not isinstance(artifact.facts, ExportFacts) or artifact.kind not in kinds_that(Runs):
        hint = f"{_runnable()} artifacts are compared: {secateur('store', 'ls', store=store.root)}"
        raise RecipeError(f"a {artifact.kind} has no latency", where=artifact.digest, hint=hint)
    label = record.action.axis or f"{format_of_kind(artifact.kind).name}/{artifact.facts.scheme}"
    for action, _ in store.records.actions("verify", label):
        if action.inputs.get("export") != artifact.digest:
            continue
        # Verified as a whole, for the verdict goes by its metrics.
        check = store.records.peek(action.key)
        if check is not None:
            known = {name: compared()[name].name for name in qualities()}
            quality = {name: check.metrics[own] for name, own in known.items() if own in check.metrics}
            return _stored(label, Output.of(artifact), store, quality, action.inputs.get("test"))
    return _stored(label, Output.of(artifact), store, {}, None)


def _stored(label: str, output: Output, store: Store, quality: Mapping[str, float], tested_on: str | None) -> Model:
    # Until this process ends: its paths are measured for minutes.
    lease = ExitStack()
    lease.enter_context(store.leases.hold())
    atexit.register(lease.close)
    for file in output.files:
        problem = store.blobs.problem(file.digest)
        if problem:
            hint = "run the recipe again: what made it will run"
            raise StoreError(f"the file of {label} is {problem} in the store", where=file.digest, hint=hint)
    path, (own, *others) = _whole(output, store), output.files
    digest = model_digest(own.digest, {file.name: file.digest for file in others})
    return Model(
        label, output.kind, path, digest, quality, tested_on, tuple(path.with_name(file.name) for file in others)
    )


def _whole(output: Output, store: Store) -> Path:
    """Return the model file's path; for several files, a temporary folder of the store under their names."""
    paths = {file.name: store.blobs.path(file.digest) for file in output.files}
    if len(paths) == 1:
        return next(iter(paths.values()))
    with store_errors(store.root):
        folder = Path(mkdtemp(prefix=f"{PROCESS}-model-", dir=store.root / "tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return whole_model(output.kind, tuple(paths), paths.__getitem__, folder)
