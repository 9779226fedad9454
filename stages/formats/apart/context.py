"""Carry a stage's context to the child process, for a stage's own function there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.contracts.shared import Shared
from pipeline.contracts.stage import StageContext
from pipeline.records.artifacts import Artifact, FileRef
from pipeline.records.manifest import Fingerprint
from pipeline.records.values import Json
from stages.formats.apart.main import Speaker
from stages.formats.apart.process import call_child


@dataclass(frozen=True)
class ChildContext:
    """Provide the reading part of a StageContext: settings, inputs and their files, which the parent has verified.

    `work_dir` is a folder for the function's files; `events` go to the parent's listener.
    """

    config: Any
    inputs: Mapping[str, Artifact]
    axis: str | None
    seed: int
    threads: int
    work_dir: Path
    events: Speaker
    paths: Mapping[str, Mapping[str, str]]
    fingerprints: Mapping[str, Fingerprint]

    @property
    def shared(self) -> Shared:
        """Return what the jobs of this child share in memory."""
        return self.events.shared

    def read(self, input_name: str, file_name: str) -> Path:
        """Return the path of a file of an input artifact. Don't write to it."""
        return Path(self.paths[input_name][file_name])

    def fingerprint(self, file: FileRef) -> Fingerprint | None:
        """Return what was recorded when this file was written."""
        return self.fingerprints.get(file.digest)


def run_apart(context: StageContext[Any], function: str, work_dir: Path, doing: str) -> Json:
    """Call a stage's `module:function` in the child with a ChildContext and return its JSON value.

    Its files are in `work_dir`. Errors are those of `call_child`, located at the action.
    """
    return call_child(
        f"{__name__}:run_here",
        told(context, function, work_dir),
        doing,
        threads=context.threads,
        where=context.events.action,
        events=context.events,
    )


def told(context: StageContext[Any], function: str, work_dir: Path) -> dict[str, Any]:
    """Return the arguments of `run_here`: the parts of a context that the child gets, as JSON."""
    config = context.config
    files = {file.digest: file for artifact in context.inputs.values() for file in artifact.files}
    fingerprints = {digest: context.fingerprint(file) for digest, file in files.items()}
    return {
        "function": function,
        "settings": f"{type(config).__module__}:{type(config).__qualname__}",
        # As JSON text and not as objects: strict pydantic takes a list for a tuple and a text for a path only in JSON
        # mode.
        "config": config.model_dump_json(by_alias=True),
        "inputs": {name: artifact.model_dump_json(by_alias=True) for name, artifact in context.inputs.items()},
        "axis": context.axis,
        "seed": context.seed,
        "threads": context.threads,
        "work_dir": str(work_dir.absolute()),
        "paths": {
            # `read` verifies the blob in this process, so the child need not know the store or hash anything.
            name: {file.name: str(context.read(name, file.name).absolute()) for file in artifact.files}
            for name, artifact in context.inputs.items()
        },
        "fingerprints": {
            digest: fingerprint.model_dump_json() for digest, fingerprint in fingerprints.items() if fingerprint
        },
    }


def run_here(
    speaker: Speaker,
    function: str,
    settings: str,
    config: str,
    inputs: Mapping[str, str],
    work_dir: str,
    fingerprints: Mapping[str, str],
    **rest: Json,
) -> Json:
    """Run the child's side of `run_apart`."""
    context = ChildContext(
        config=named(settings).model_validate_json(config),
        inputs={name: Artifact.model_validate_json(text) for name, text in inputs.items()},
        work_dir=Path(work_dir),
        events=speaker,
        fingerprints={digest: Fingerprint.model_validate_json(text) for digest, text in fingerprints.items()},
        **rest,
    )
    return named(function)(context)


def named(reference: str) -> Any:
    """Return the object named `module:name`."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
