"""Copy the files of a run (`secateur export`), each whole, and none before all have been verified."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import JsonOption, StoreOption, open_store
from pipeline.errors import RecipeError, SecateurError, StoreError
from pipeline.records.delivered import left_out, require_inside, wanted_files
from pipeline.reports.command_lines import secateur
from pipeline.store import Store
from pipeline.store.files import publish

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or `latest`.")]
FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Where the files go.")]


def command(run: RunArgument, folder: FolderArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    opened = open_store(store)
    with opened.leases.hold():
        _export(run, folder, opened, as_json=as_json)


def _export(run: str, folder: Path, opened: Store, *, as_json: bool) -> None:
    manifest = opened.runs.get(run)
    if manifest is None:
        listing = secateur("store", "ls", store=opened.root)
        raise RecipeError(f"no run is called {run!r}", where=str(opened.root), hint=f"{listing}   lists runs")
    for axis, why in left_out(manifest).items():
        print(f"! {axis} is left out: {why}", file=sys.stderr)
    files = wanted_files(manifest)
    if not files:
        what = f"run {manifest.run_id} has nothing to copy"
        hint = "no export is proven" if left_out(manifest) else "its recipe has no export, or the run failed before"
        raise RecipeError(what, hint=f"{hint}: {secateur('show', manifest.run_id, store=opened.root)}")
    require_inside(files, manifest.run_id)
    for digest in files.values():
        problem = opened.blobs.problem(digest)
        if problem:
            raise StoreError(f"a blob is {problem}", where=digest, hint="run the recipe again: what made it will run")
    left = _left_from_before(folder, files)
    written = [_write(folder / name, opened.blobs.path(digest).read_bytes()) for name, digest in files.items()]
    written.append(_write(folder / "manifest.json", manifest.model_dump_json(indent=1).encode()))
    if as_json:
        names = [path.relative_to(folder).as_posix() for path in written]
        print(
            json.dumps({"schema_version": 1, "folder": str(folder), "files": names, "left_from_before": left}, indent=1)
        )
    else:
        print("\n".join(str(path) for path in written))
    if left:
        print(f"! {folder}/ still has files that this run does not deliver: {', '.join(left)}", file=sys.stderr)


def _left_from_before(folder: Path, files: Iterable[str]) -> list[str]:
    """Return what lies in the folders of the delivered formats and is none of `files`, which name it from `folder`.

    Nothing is deleted: it may be wanted. But what ships the folder would take it for this run's, whoever put it there.
    """
    delivered = set(files)
    formats = {name.partition("/")[0] for name in delivered}
    there = (path for name in formats for path in (folder / name).rglob("*") if path.is_file())
    return sorted({path.relative_to(folder).as_posix() for path in there} - delivered)


def _write(target: Path, data: bytes) -> Path:
    """Write the way the store publishes: whole or not at all, with an ordinary file's mode."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Through the target's own folder: a rename does not cross file systems.
        publish(target, data, target.parent)
    except OSError as error:
        what = f"the file can't be written: {(error.strerror or str(error)).lower()}"
        raise SecateurError(what, where=str(target), hint="give another folder, or free space") from error
    return target
