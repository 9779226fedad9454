"""Implement `secateur store ls` and `secateur store verify`, and bring the other commands of the store together."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

import typer

from pipeline.cli import space
from pipeline.cli.options import JsonOption, StoreOption, open_store
from pipeline.errors import StoreError, numbered
from pipeline.records.manifest import ActionRecord
from pipeline.reports.command_lines import secateur
from pipeline.reports.table import size
from pipeline.store import Store
from pipeline.store.blobs import QUARANTINE
from pipeline.store.contents import survey
from pipeline.store.runs import Runs

app = typer.Typer(no_args_is_help=True)
for command in (space.gc, space.pin, space.unpin, space.stats):
    app.command(name=command.__name__, help=command.__doc__)(command)


@app.command(name="ls", help="List runs and actions.")
def ls(store: StoreOption = None, as_json: JsonOption = False) -> None:
    opened = open_store(store)
    runs = _dated(opened)
    # Not verified, which would read every file: that is what `verify` is for.
    records = [opened.records.peek(key) for key in sorted(opened.records.keys())]
    actions = [_action(record) for record in records if record is not None]
    actions.sort(key=lambda action: action["finished_at"])
    _warn_of_damage(opened, records.count(None) + sum(run["verdict"] == "damaged" for run in runs))
    if as_json:
        document = {"schema_version": 1, "root": str(opened.root), "runs": runs, "actions": actions}
        print(json.dumps(document, ensure_ascii=False, indent=1))
        return
    blobs = len(list(opened.blobs.digests()))
    print(f"{opened.root}: {numbered(len(runs), 'run')}, {numbered(len(actions), 'action')}, {numbered(blobs, 'blob')}")
    for run in runs:
        taken, pinned = size(run["size"]), "  pinned" if run["pinned"] else ""
        print(f"run {run['run_id']}  {run['finished_at']}  {taken:>9}  {run['verdict']:12}  {run['name']}{pinned}")
    for action in actions:
        name = f"{action['stage']} {action['axis'] or ''}".strip()
        print(f"{action['finished_at']}  {name:28}  {size(action['size']):>9}  {' '.join(action['artifacts'])}")


def _dated(store: Store) -> list[dict[str, Any]]:
    """Return a line for each run, the newest first: the size is that of all that it reaches, its manifest included."""
    contents, pinned = survey(store.root), store.pins.ids()
    lines = []
    for name, item in sorted(contents.runs.items(), key=lambda run: -run[1].time):
        keys, blobs = contents.reached([contents.listed[name]])
        parts = [*(contents.records.get(key) for key in keys), *(contents.blobs.get(blob) for blob in blobs)]
        when = datetime.fromtimestamp(item.time, UTC).isoformat(timespec="seconds")
        taken = item.size_bytes + sum(part.size_bytes for part in parts if part is not None)
        lines.append({**_run(store.runs, name), "finished_at": when, "size": taken, "pinned": name in pinned})
    return lines


def _warn_of_damage(store: Store, count: int) -> None:
    if count:
        verifying = secateur("store", "verify", store=store.root)
        print(f"! {numbered(count, 'file')} can't be listed: {verifying}   tells which", file=sys.stderr)


def _run(runs: Runs, name: str) -> dict[str, Any]:
    try:
        manifest = runs.get(name)
    except StoreError:
        manifest = None
    if manifest is None:
        return {"run_id": name, "name": "", "verdict": "damaged"}
    return {"run_id": manifest.run_id, "name": manifest.name, "verdict": manifest.verdict}


def _action(record: ActionRecord) -> dict[str, Any]:
    return {
        "key": record.key,
        "stage": record.action.stage,
        "axis": record.action.axis,
        "finished_at": record.provenance.finished_at,
        "size": sum(file.size for artifact in record.outputs for file in artifact.files),
        "artifacts": [artifact.digest[:15] for artifact in record.outputs],
    }


@app.command(
    name="verify", help="Read everything and compare it with its digest; damaged files are moved to quarantine/."
)
def verify(store: StoreOption = None, as_json: JsonOption = False) -> None:
    opened = open_store(store)
    before = sum(1 for _ in (opened.root / QUARANTINE).glob("*"))
    digests = sorted(opened.blobs.digests())
    problems = {digest: problem for digest in digests if (problem := opened.blobs.problem(digest))}
    keys = sorted(opened.records.keys())
    for key in keys:
        record = opened.records.get(key)
        if isinstance(record, str):
            problems[key] = record
    problems |= {name: problem for name in opened.runs.ids() if (problem := opened.runs.problem(name))}
    if as_json:
        document = {
            "schema_version": 1,
            "blobs": len(digests),
            "actions": len(keys),
            "problems": problems,
            "quarantined": before,
        }
        print(json.dumps(document, indent=1))
    else:
        print(
            f"{numbered(len(digests), 'blob')}, {numbered(len(keys), 'action')}: {numbered(len(problems), 'problem')}"
        )
        for name, problem in problems.items():
            print(f"  {name}: {problem}")
        if before:
            print(f"{QUARANTINE}/ also holds {numbered(before, 'file')} with damage that was found before")
    if problems:
        are = "is" if len(problems) == 1 else "are"
        error = StoreError(
            f"{numbered(len(problems), 'part')} of the store {are} damaged or missing",
            where=str(opened.root),
            hint="damaged files go to quarantine/ where the store can be written; the next run makes them again",
        )
        error.printed = True
        raise error
