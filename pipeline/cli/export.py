"""`secateur export`: the files of a run, each copied whole, none before all are known to be well."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import JsonOption, StoreOption, open_store
from pipeline.command_lines import secateur
from pipeline.errors import RecipeError, SecateurError, StoreError
from pipeline.manifest import Output, RunManifest
from pipeline.store.files import publish
from pipeline.summary import first_line

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or `latest`.")]
FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Where the files go.")]


def command(run: RunArgument, folder: FolderArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    opened = open_store(store)
    manifest = opened.runs.get(run)
    if manifest is None:
        listing = secateur("store", "ls", store=opened.root)
        raise RecipeError(f"no run is called {run!r}", where=str(opened.root), hint=f"{listing}   lists runs")
    for axis, why in left_out(manifest).items():
        print(f"! {axis} is left out: {why}", file=sys.stderr)
    files = wanted_files(manifest)
    if not files:
        what, hint = f"run {manifest.run_id} has nothing to copy", "its recipe has no export, or the run failed before"
        raise RecipeError(what, hint=f"{hint}: {secateur('show', manifest.run_id, store=opened.root)}")
    for digest in files.values():
        problem = opened.blobs.problem(digest)
        if problem:
            raise StoreError(f"a blob is {problem}", where=digest, hint="run the recipe again: what made it will run")
    written = [_write(folder / name, opened.blobs.path(digest).read_bytes()) for name, digest in files.items()]
    written.append(_write(folder / "manifest.json", manifest.model_dump_json(indent=1).encode()))
    if as_json:
        names = [path.relative_to(folder).as_posix() for path in written]
        print(json.dumps({"schema_version": 1, "folder": str(folder), "files": names}, indent=1))
    else:
        print("\n".join(str(path) for path in written))


def left_out(manifest: RunManifest) -> dict[str, str]:
    """The exports (`format/scheme`) that were not made, or not verified as the recipe wanted; each with the reason."""
    found: dict[str, str] = {}
    for entry in manifest.stages:
        export = entry.stage == "export" and not entry.id.startswith("baseline:")
        if (export or entry.stage == "verify") and entry.status in ("failed", "skipped"):
            what = "its export" if export else "its verification"
            why = f"was never reached, {first_line(entry.reason)}"
            why = f"failed: {first_line(entry.reason)}" if entry.status == "failed" else why
            found.setdefault(str(entry.axis), f"{what} {why}")
    return found


def wanted_files(manifest: RunManifest) -> dict[str, str]:
    """`FORMAT/SCHEME/name` and the digest of each proven export, and of the Keras model that they come from."""
    files: dict[str, str] = {}
    keras: Output | None = None
    unproven = left_out(manifest)
    for entry in manifest.stages:
        if entry.stage == "export" and not entry.id.startswith("baseline:") and entry.axis not in unproven:
            for output in entry.outputs:
                files |= {f"{entry.axis}/{file.name}": file.digest for file in output.files}
        elif entry.stage not in ("load", "evaluate") and not entry.id.startswith("control"):
            keras = next((output for output in entry.outputs if output.kind == "keras-model"), keras)
    if files and keras is not None:
        files |= {f"keras/float32/{file.name}": file.digest for file in keras.files}
    return files


def _write(target: Path, data: bytes) -> Path:
    """Write through the store's own way of publishing: whole or not at all, with an ordinary file's mode."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        publish(target, data, target.parent)
    except OSError as error:
        what = f"the file can't be written: {(error.strerror or str(error)).lower()}"
        raise SecateurError(what, where=str(target), hint="give another folder, or free space") from error
    return target
