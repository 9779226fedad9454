"""Implement `secateur store gc`, `pin`, `unpin` and `stats`: what takes space in the store, and what may go."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError

from pipeline.cli.options import JsonOption, StoreOption, open_store
from pipeline.errors import RecipeError, numbered
from pipeline.reports.command_lines import secateur
from pipeline.reports.table import size
from pipeline.store import Store
from pipeline.store.choice import Limits
from pipeline.store.contents import survey
from pipeline.store.gc import Collected, collect
from pipeline.store.settings import user_settings

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or `latest`.")]
MaxSizeOption = Annotated[
    str | None, typer.Option("--max-size", metavar="SIZE", help="Keep the newest that fit: 20GB, 500MB, 0.")
]
KeepDaysOption = Annotated[
    float | None, typer.Option("--keep-days", metavar="DAYS", min=0, help="Keep what is newer; 30 without any limit.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")]
NOUNS = {
    "runs": "run",
    "records": "action",
    "blobs": "blob",
    "work": "scratch folder",
    "quarantine": "damaged file",
    "tmp": "temporary file",
    "locks": "lock file",
    "leases": "lease file",
}


def gc(
    max_size: MaxSizeOption = None,
    keep_days: KeepDaysOption = None,
    dry_run: DryRunOption = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Free space: remove old runs, what no run needs, and what killed processes left."""
    limits = user_settings().gc.limits(_bytes(max_size), keep_days)
    opened = _existing(store)
    collected = collect(opened, limits, dry_run=dry_run)
    if as_json:
        print(json.dumps(_document(opened, limits, collected, dry_run=dry_run), indent=1))
    else:
        print(_text(opened, limits, collected, dry_run=dry_run))


def _bytes(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError as error:
        what = f"{text!r} is not a size"
        raise RecipeError(what, where="--max-size", hint="write 20GB, 500MB, 1.5GiB, or a number of bytes") from error


def _existing(store: Path | None) -> Store:
    opened = open_store(store)
    if not (opened.root / "VERSION").exists():
        raise RecipeError("there is no store", where=str(opened.root), hint="a run makes one; --store names another")
    return opened


def _document(store: Store, limits: Limits, collected: Collected, *, dry_run: bool) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "root": str(store.root),
        "dry_run": dry_run,
        "keep_days": limits.keep_days,
        "max_bytes": limits.max_bytes,
        "before_bytes": collected.before_bytes,
        "freed_bytes": collected.freed_bytes,
        "kept_bytes": collected.kept_bytes,
        "removed": {
            kind: {"count": figures.count, "bytes": figures.size_bytes} for kind, figures in collected.removed.items()
        },
        "runs": collected.runs,
        "pinned": collected.pinned,
        "processes": collected.processes,
    }


def _text(store: Store, limits: Limits, collected: Collected, *, dry_run: bool) -> str:
    does = "would free" if dry_run else "freed"
    lines = [f"{store.root}: {does} {size(collected.freed_bytes)} of {size(collected.before_bytes)}"]
    for kind, figures in collected.removed.items():
        if figures.count:
            lines.append(f"  {numbered(figures.count, NOUNS[kind]):22} {size(figures.size_bytes):>9}")
    held = [
        *([numbered(collected.pinned, "pinned run")] if collected.pinned else []),
        *([numbered(collected.processes, "process") + " at work"] if collected.processes == 1 else []),
        *([f"{collected.processes} processes at work"] if collected.processes > 1 else []),
    ]
    lines.append(f"{size(collected.kept_bytes)} stay" + (f"; {' and '.join(held)} protected" if held else ""))
    if limits.max_bytes is not None and collected.kept_bytes > limits.max_bytes:
        over = size(collected.kept_bytes - limits.max_bytes)
        lines.append(f"! {over} more than --max-size: pinned, in use, or written a moment ago")
    return "\n".join(lines)


def pin(run: RunArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Keep a run, and all that it reaches, whatever is collected."""
    opened = _existing(store)
    # Under a lease, which notes the run: a collection does not see the pin of what it is about to remove.
    with opened.leases.hold():
        run_id = _run_id(opened, run)
        opened.pins.add(run_id)
    _print_pin(run_id, "pinned", as_json=as_json)


def unpin(run: RunArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Let a pinned run go with the next collection that its age or size asks for."""
    opened = _existing(store)
    # By its pin first: its manifest may be damaged, or gone.
    run_id = run if run in opened.pins.ids() else _run_id(opened, run)
    if not opened.pins.remove(run_id):
        pinned = ", ".join(sorted(opened.pins.ids())) or "none"
        raise RecipeError(f"run {run_id} is not pinned", where=str(opened.root), hint=f"pinned: {pinned}")
    _print_pin(run_id, "unpinned", as_json=as_json)


def _run_id(store: Store, name: str) -> str:
    manifest = store.runs.get(name)
    if manifest is None:
        listing = secateur("store", "ls", store=store.root)
        raise RecipeError(f"no run is called {name!r}", where=str(store.root), hint=f"{listing}   lists runs")
    return manifest.run_id


def _print_pin(run_id: str, done: str, *, as_json: bool) -> None:
    document = {"schema_version": 1, "run_id": run_id, "pinned": done == "pinned"}
    print(json.dumps(document, indent=1) if as_json else f"{done} run {run_id}")


def stats(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Say what takes how much space."""
    opened = open_store(store)
    contents = survey(opened.root)
    parts = {
        "blobs": contents.blobs,
        "actions": contents.records,
        "runs": contents.runs,
        "work": contents.work,
        "quarantine": contents.quarantine,
        "tmp": contents.tmp,
        "locks": contents.locks,
        "leases": contents.leases,
    }
    figures = {
        name: {"count": len(items), "bytes": sum(item.size_bytes for item in items.values())}
        for name, items in parts.items()
    }
    by_stage: Counter[str] = Counter()
    for named in contents.made.values():
        by_stage[named.title] += sum(contents.blobs[blob].size_bytes for blob in named.blobs if blob in contents.blobs)
    document = {
        "schema_version": 1,
        "root": str(opened.root),
        "bytes": contents.size_bytes,
        "parts": {**figures, "other": {"count": None, "bytes": contents.other_bytes}},
        "stages": dict(by_stage.most_common()),
        "pinned": sorted(opened.pins.ids()),
        "processes": len(opened.leases.live()),
    }
    if as_json:
        print(json.dumps(document, indent=1))
        return
    print(f"{opened.root}: {size(contents.size_bytes)}")
    for name, one in figures.items():
        print(f"  {name:12} {one['count']:>7}  {size(one['bytes']):>10}")
    print(f"  {'other':12} {'':>7}  {size(contents.other_bytes):>10}")
    print("files by the stage that made them (shared ones count for each)")
    for stage, taken in by_stage.most_common():
        print(f"  {stage:20}  {size(taken):>10}")
    print(f"{numbered(len(opened.pins.ids()), 'pinned run')}; processes at work: {document['processes']}")
