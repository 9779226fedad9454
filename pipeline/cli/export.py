"""`secateur export`: the files of a run, copied out whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import JsonOption, StoreOption, open_store
from pipeline.errors import RecipeError, SecateurError, StoreError
from pipeline.manifest import Output, RunManifest
from pipeline.store import Store

MODEL_KINDS = ("tflite-model", "onnx-model")

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or `latest`.")]
FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Where the files go.")]


def command(run: RunArgument, folder: FolderArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    opened = open_store(store)
    manifest = opened.runs.get(run)
    if manifest is None:
        raise RecipeError(f"no run is called {run!r}", where=str(opened.root), hint="secateur store ls   lists runs")
    files = wanted_files(manifest)
    if not files:
        raise RecipeError(
            f"run {manifest.run_id} exported nothing", hint="its recipe has no export, or failed before it"
        )
    written = [_copy(opened, digest, folder / name) for name, digest in files.items()]
    _write(folder / "manifest.json", manifest.model_dump_json(indent=1).encode())
    if as_json:
        names = [path.relative_to(folder).as_posix() for path in written]
        print(json.dumps({"schema_version": 1, "folder": str(folder), "files": names}, indent=1))
    else:
        print("\n".join(str(path) for path in [*written, folder / "manifest.json"]))


def wanted_files(manifest: RunManifest) -> dict[str, str]:
    """`FORMAT/SCHEME/name` and the digest of each exported file, and the Keras model that they come from."""
    files: dict[str, str] = {}
    keras: Output | None = None
    for entry in manifest.stages:
        if entry.stage == "export" and not entry.id.startswith("baseline:"):
            for output in entry.outputs:
                files |= {f"{entry.axis}/{file.name}": file.digest for file in output.files}
        elif entry.stage not in ("load", "evaluate") and entry.id != "control":
            keras = next((output for output in entry.outputs if output.kind == "keras-model"), keras)
    if files and keras is not None:
        files |= {f"keras/float32/{file.name}": file.digest for file in keras.files}
    return files


def _copy(store: Store, digest: str, target: Path) -> Path:
    problem = store.blobs.problem(digest)
    if problem:
        raise StoreError(f"a blob is {problem}", where=digest, hint="run the recipe again: what made it will run")
    return _write(target, store.blobs.path(digest).read_bytes())


def _write(target: Path, data: bytes) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
            try:
                file.write(data)
                file.close()
                shutil.copymode(__file__, file.name)  # temporary files are private: give it an ordinary file's mode
                Path(file.name).replace(target)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        what = f"the file can't be written: {(error.strerror or str(error)).lower()}"
        raise SecateurError(what, where=str(target), hint="give another folder, or free space") from error
    return target
