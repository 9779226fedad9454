"""Run one action: look, lock, look again, run, check, record. Nothing is recorded that did not pass its check."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.contracts.discovery import stages
from pipeline.contracts.events import ActionEvents, Listener, Waiting
from pipeline.contracts.shared import Shared
from pipeline.contracts.stage import StageConfig, StageResult
from pipeline.data import DataSource, Split
from pipeline.errors import (
    PLEASE_REPORT,
    BlobError,
    ChangedDataError,
    ChangedModelError,
    PostconditionError,
    PreconditionError,
    SecateurError,
    StageError,
    reason_of,
)
from pipeline.planning.plan import host, make_action
from pipeline.recipe.model_files import FILE, digest_of_model
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.user_code import code_input, load_function
from pipeline.records.artifacts import Artifact, FileRef
from pipeline.records.manifest import Action, ActionRecord, Fingerprint, Provenance
from pipeline.store import BusyError, Store
from pipeline.store.blobs import quarantine
from pipeline.store.files import store_errors
from pipeline.system.installed import package_version
from pipeline.system.memory import give_back

OBSTACLES = {errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY}
STORE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}


@dataclass(frozen=True)
class RunScope:
    """Hold what every action of a run shares."""

    recipe: Recipe
    store: Store
    data: DataSource | None
    model_files: Mapping[str, Path]
    listener: Listener
    run_id: str
    shared: Shared = field(default_factory=Shared)


@dataclass(frozen=True)
class Job:
    """Describe an action that is ready to run: id, configuration and input artifacts besides its key's pre-image."""

    id: str
    action: Action
    config: StageConfig
    inputs: Mapping[str, Artifact]
    fingerprints: Mapping[str, Fingerprint] = field(default_factory=dict)  # by the digest of a file in `inputs`


@dataclass(frozen=True, slots=True)
class ActionResult:
    """Hold a finished action, and whether this process ran it, resumed it, or found it done."""

    record: ActionRecord
    status: str


@dataclass
class Context:
    """Implement the StageContext of one action in one store."""

    job: Job
    scope: RunScope
    work_dir: Path
    children: list[str] = field(default_factory=list)
    _known: dict[str, Fingerprint] = field(init=False)

    def __post_init__(self) -> None:
        # A copy: it grows with what this action writes, and the mapping belongs to the caller.
        self._known = dict(self.job.fingerprints)

    @property
    def config(self) -> Any:
        return self.job.config

    @property
    def inputs(self) -> Mapping[str, Artifact]:
        return self.job.inputs

    @property
    def axis(self) -> str | None:
        return self.job.action.axis

    @property
    def seed(self) -> int:
        return self.job.action.seed or 0

    @property
    def threads(self) -> int:
        return self.scope.recipe.threads

    @property
    def folder(self) -> Path:
        return self.scope.recipe.folder

    @property
    def events(self) -> ActionEvents:
        return ActionEvents(self.job.id, self.scope.listener)

    @property
    def shared(self) -> Shared:
        return self.scope.shared

    def read(self, input_name: str, file_name: str) -> Path:
        return self._verified(self.inputs[input_name].file(file_name), f"{input_name}/{file_name}")

    def read_made(self, artifact: Artifact, file_name: str) -> Path:
        return self._verified(artifact.file(file_name), f"{artifact.kind}/{file_name}")

    def _verified(self, file: FileRef, name: str) -> Path:
        blobs = self.scope.store.blobs
        problem = blobs.problem(file.digest)
        if problem:
            where = f"{self.job.id}: {name}"
            raise BlobError(f"a blob is {problem}", where=where, hint="run again: what made it will run")
        return blobs.path(file.digest)

    def source_file(self, role: str = FILE) -> Path:
        if role not in self.job.action.inputs:
            raise PreconditionError(f"the recipe's model has no {role}", where=self.job.id)
        path = self.scope.model_files[role]
        copy = self.work_dir / f".{role}"  # read exactly what was hashed, whatever happens to the file meanwhile
        with store_errors(copy):
            # A killed run may have left a part of a copy here.
            shutil.rmtree(copy, ignore_errors=True)
            # Links stay links, so that `digest_of_model` refuses them below, as it did in the plan.
            shutil.copytree(path, copy, symlinks=True) if path.is_dir() else shutil.copyfile(path, copy)
        # Hashed again from the copy: the plan's digest may be of a file that was replaced between the plan and now.
        if digest_of_model(copy) != self.job.action.inputs[role]:
            what = "the model file changed during the run"
            raise ChangedModelError(what, where=str(path), hint="run again")
        return copy

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(self.scope.model_files)

    def source_name(self, role: str = FILE) -> str:
        return str(self.scope.model_files.get(role, role))

    def data(self, split: str) -> Split:
        if self.scope.data is None or split not in self.job.action.inputs:
            raise PreconditionError(f"{self.job.action.stage} did not declare that it reads {split}", where=self.job.id)
        samples = self.scope.data.split(split)
        # The key says which data this result is of. Going on with other data would store a wrong result under it for
        # good.
        if samples.digest != self.job.action.inputs[split]:
            what = f"the {split} data changed during the run"
            raise ChangedDataError(what, where=str(self.scope.data.path), hint="run again")
        for note in samples.notes:
            self.events.warned(note)
        return samples

    def function(self, reference: str) -> Callable[..., Any]:
        digest, function = load_function(self.scope.recipe.folder, reference)
        if digest != self.job.action.inputs.get(code_input(reference)):
            what = f"{reference} changed during the run, or {self.job.action.stage} did not declare it"
            raise PreconditionError(what, where=self.job.id, hint="run again")
        return function

    def write(self, name: str, data: bytes | memoryview, media_type: str) -> FileRef:
        digest = self.scope.store.blobs.put(data)
        return FileRef(name=name, digest=digest, size=len(data), media_type=media_type)

    def attest(self, file: FileRef, fingerprint: Fingerprint) -> None:
        self._known[file.digest] = fingerprint

    def fingerprint(self, file: FileRef) -> Fingerprint | None:
        return self._known.get(file.digest)

    def fingerprints_of(self, outputs: Iterable[Artifact]) -> dict[str, Fingerprint]:
        """Return what is known of the files of `outputs`, whoever wrote them."""
        digests = {file.digest for artifact in outputs for file in artifact.files}
        return {digest: self._known[digest] for digest in sorted(digests & self._known.keys())}

    def call(
        self, stage: str, config: Mapping[str, object], inputs: Mapping[str, Artifact], axis: str | None = None
    ) -> ActionRecord:
        implementation = stages()[stage]
        try:
            settings = implementation.config.model_validate(config)
        except ValidationError as error:
            raise PreconditionError(f"{self.job.id} called {stage} with settings it refuses: {error}") from error
        digests = {name: artifact.digest for name, artifact in inputs.items()}
        if self.scope.data is not None:
            digests |= {split: self.scope.data.digest(split) for split in implementation.splits(settings)}
        action = make_action(stage, settings, axis or self.axis, digests, self.scope.recipe)
        done = perform(Job(f"{self.job.id}>{stage}", action, settings, inputs, self._known), self.scope)
        # Only those that succeeded: a failed rung of a ladder has no record that a child key could name.
        self.children.append(done.record.key)
        self._known |= done.record.fingerprints
        return done.record


def perform(job: Job, scope: RunScope, *, force: bool = False) -> ActionResult:
    """Run an action, or wait for the process that does; raises the stage's error if it fails."""
    store, key = scope.store, job.action.key
    while True:
        # Before the lock, so that hits need no lock and work in a store that is read-only.
        record = None if force else store.records.get(key)
        if isinstance(record, ActionRecord):
            return ActionResult(record, "hit")
        store.create()
        try:
            with store.lock(key):
                # Again under the lock: whoever held it a moment ago may have just made this record.
                record = None if force else store.records.get(key)
                if isinstance(record, ActionRecord):
                    return ActionResult(record, "hit")
                return _work(job, scope, force=force)
        except BusyError:
            scope.listener(Waiting(job.id))
            # Then look again from the start: the other process may have failed, and the work is ours now.
            store.wait(key)


def _work(job: Job, scope: RunScope, *, force: bool) -> ActionResult:
    store, key, stage = scope.store, job.action.key, stages()[job.action.stage]
    started = time.perf_counter()
    stage.requires(job.config, job.inputs)
    if force:
        store.remove_work_dir(key)  # do not resume from what is not trusted
    context = Context(job, scope, store.create_work_dir(key))
    try:
        result = stage.run(context)
        # Before the record: with no record there is nothing for a later run to find, so a failed check is never cached.
        stage.ensures(context, result)
    except SecateurError:
        # The scratch stays here and below: a run that was killed or failed resumes from it.
        raise
    except (Exception, SystemExit) as error:  # the user's own code may call sys.exit: that ends its action
        if isinstance(error, OSError) and error.errno in STORE_ERRNOS:
            # A stage writes to its scratch, which is in the store: a full disk there is not a bug of the stage.
            with store_errors(store.root):
                raise
        moved = _cleared(store, context.work_dir, error)
        if moved is not None:
            what = "the action's scratch is damaged; what was in the way went to quarantine/"
            raise BlobError(what, where=f"{job.id}: {moved}", hint="run again") from error
        raise _unforeseen(job, error) from error
    undeclared = {artifact.kind for artifact in result.outputs} - set(stage.outputs)
    if undeclared:
        raise PostconditionError(f"{job.action.stage} made {', '.join(undeclared)}, which it does not declare")
    record = _record(job, scope, result, context, time.perf_counter() - started)
    store.records.put(record)
    # After the commit. The other way round, a kill in between would lose the work and the result.
    store.remove_work_dir(key)
    give_back()
    return ActionResult(record, "resumed" if result.resumed else "ran")


def _cleared(store: Store, work_dir: Path, error: BaseException) -> Path | None:
    """Quarantine what in the scratch caused an error, such as a folder in place of a file; return where it was."""
    if not isinstance(error, OSError) or error.errno not in OBSTACLES:
        return None
    # A rename has two names, and the second one is in the way.
    named = (Path(os.fsdecode(name)) for name in (error.filename2, error.filename) if isinstance(name, str | bytes))
    inside = (path for path in named if work_dir in path.parents)
    return next((path for path in inside if quarantine(store.root, path)), None)


def _unforeseen(job: Job, error: BaseException) -> StageError:
    """Wrap an exception that the stage did not foresee, in one line; the traceback stays with it as its cause."""
    return StageError(
        f"{job.action.stage} failed: {type(error).__name__}: {reason_of(error)}", where=job.id, hint=PLEASE_REPORT
    )


def _record(job: Job, scope: RunScope, result: StageResult, context: Context, wall_s: float) -> ActionRecord:
    provenance = Provenance(
        run_id=scope.run_id,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        host=host(),
        secateur=package_version("secateur"),
    )
    return ActionRecord.sealed(
        key=job.action.key,
        action=job.action,
        outputs=result.outputs,
        metrics=dict(result.metrics),
        intervals=dict(result.intervals),
        children=tuple(context.children),
        fingerprints=context.fingerprints_of(result.outputs),
        wall_s=round(wall_s, 3),
        provenance=provenance,
    )
