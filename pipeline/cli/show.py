"""Show a run (`secateur show`): its manifest as a table, its parity matrix, an artifact's lineage, why a stage ran."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from pipeline.cli.options import JsonOption, StoreOption, open_store, print_json
from pipeline.errors import RecipeError
from pipeline.recipe.errors import nearest
from pipeline.records.artifacts import Artifact
from pipeline.records.manifest import ActionRecord, RunManifest, StageEntry
from pipeline.reports.command_lines import secateur
from pipeline.reports.parity_table import parity_document, parity_table
from pipeline.reports.table import closing, size
from pipeline.store import Store
from pipeline.store.lineage import digests_named, makers

NameArgument = Annotated[str, typer.Argument(metavar="RUN|ARTIFACT", help="A run's id, `latest`, or sha256:….")]
WhyOption = Annotated[str | None, typer.Option("--why", metavar="STAGE", help="Tell why this stage ran.")]
ParityOption = Annotated[
    bool, typer.Option("--parity", help="How near each exported file is to Keras, on real and made-up inputs.")
]


def command(
    name: NameArgument,
    why: WhyOption = None,
    parity: ParityOption = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    opened = open_store(store)
    manifest = opened.runs.get(name)
    if manifest is None and parity:
        raise RecipeError(f"no run is called {name!r}", where=str(opened.root), hint=f"{_listing(opened)}   lists runs")
    if manifest is None:
        _show_artifact(opened, name, as_json=as_json)
    elif why is not None:
        _show_why(opened, _entry(manifest, why), as_json=as_json)
    elif parity:
        print(json.dumps(parity_document(manifest), indent=1) if as_json else _parity(manifest))
    elif as_json:
        print_json(manifest)
    else:
        _show_run(manifest, opened)


def _listing(store: Store) -> str:
    return secateur("store", "ls", store=store.root)


def _show_run(manifest: RunManifest, store: Store) -> None:
    width = max(len(entry.id) for entry in manifest.stages)
    print(f"run {manifest.run_id} of {manifest.name}\n")
    for entry in manifest.stages:
        made = "  ".join(f"{output.kind} {output.digest[:15]}…" for output in entry.outputs)
        reason, *more = entry.reason.splitlines() or [""]
        print(f"{entry.id.ljust(width)}  {entry.status:8}  {reason}")
        for line in more:
            print(f"{' ' * width}  {line}")
        if made:
            print(f"{' ' * width}  {made}")
    print(f"\n{closing(manifest, store.root)}")


def _parity(manifest: RunManifest) -> str:
    table = parity_table(manifest)
    if not table:
        raise RecipeError("the run has no verified exports", hint="the recipe needs `verify`, and a test split")
    return f"exported files compared with Keras, run {manifest.run_id} of {manifest.name}\n\n{table}"


def _entry(manifest: RunManifest, stage: str) -> StageEntry:
    for entry in manifest.stages:
        if stage in (entry.id, entry.axis):
            return entry
    raise RecipeError(f"the run has no action {stage!r}", hint=nearest(stage, [entry.id for entry in manifest.stages]))


def _show_why(store: Store, entry: StageEntry, *, as_json: bool) -> None:
    record = store.records.peek(entry.key) if entry.key else None
    action = record.action.model_dump(mode="json") if record is not None else None
    head = {"id": entry.id, "status": entry.status, "reason": entry.reason, "key": entry.key}
    if as_json:
        print(json.dumps({"schema_version": 1, **head, "action": action}, ensure_ascii=False, indent=1))
        return
    print("\n".join(f"{name:10}{value}" for name, value in head.items()))
    for part in ("config", "inputs", "packages", "seed", "threads", "device"):
        if action and action[part] not in (None, {}):
            print(f"{part:10}{json.dumps(action[part], ensure_ascii=False)}")


def _show_artifact(store: Store, name: str, *, as_json: bool) -> None:
    known = makers(store)
    matches = digests_named(name, known)
    if len(matches) != 1:
        what = (
            f"{len(matches)} artifacts begin with {name}" if matches else f"no run and no artifact is called {name!r}"
        )
        raise RecipeError(what, where=str(store.root), hint=f"{_listing(store)}   lists runs and artifacts")
    lineage = list(_lineage(matches[0], known))
    if as_json:
        print(json.dumps({"schema_version": 1, "lineage": lineage}, ensure_ascii=False, indent=1))
        return
    for step in lineage:
        indent = "  " * step["depth"]
        print(f"{indent}{step['kind']} {step['digest'][:15]}…  {size(step['size'])}  by {step['stage']}", end="")
        print(f" {step['axis']}" if step["axis"] else "", f" key {step['key'][:12]}…")


def _lineage(digest: str, known: dict[str, tuple[ActionRecord, Artifact]], depth: int = 0) -> Iterator[dict[str, Any]]:
    if digest not in known:
        return
    record, artifact = known[digest]
    yield {
        "depth": depth,
        "kind": artifact.kind,
        "digest": digest,
        "size": sum(file.size for file in artifact.files),
        "stage": record.action.stage,
        "axis": record.action.axis,
        "key": record.key,
    }
    for source in record.action.inputs.values():
        yield from _lineage(source, known, depth + 1)
