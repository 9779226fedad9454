"""List targets and set them up (`secateur target`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import JsonOption
from pipeline.errors import SecateurError
from stages.devices.target import Target, device_fingerprint, find_target, target_names

app = typer.Typer(no_args_is_help=True, help="List targets of benchmarks, or set one up.")
FolderOption = Annotated[
    Path, typer.Option("--folder", help="The recipe's folder: targets there come first.", show_default="this one")
]


@app.command("list")
def list_targets(folder: FolderOption = Path(), as_json: JsonOption = False) -> None:
    """List all targets that a recipe in this folder could name, and whether they are ready."""
    rows = [_row(find_target(name, folder)) for name in target_names(folder)]
    if as_json:
        typer.echo(json.dumps({"schema_version": 1, "targets": rows}, indent=1))
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        typer.echo(f"{row['name']:<{width}}  {row['kind']:<8}  {row['state']:<16}  {row['about']}".rstrip())
    for row in rows:
        if row["note"]:
            typer.echo(f"! {row['note']}", err=True)


def target_named(name: str, folder: Path) -> Target:
    """Return the target with this name; if it shadows a built-in one, stderr says so."""
    target = find_target(name, folder)
    if target.shadow:
        typer.echo(f"! {target.shadow}", err=True)
    return target


@app.command("setup")
def set_up(name: Annotated[str, typer.Argument(metavar="TARGET")], folder: FolderOption = Path()) -> None:
    """Set up a target, check it, and record what it is."""
    target = target_named(name, folder)
    target.driver.set_up(target, lambda text: typer.echo(text, err=True))
    for key, value in device_fingerprint(target).items():
        typer.echo(f"{key:<12}  {value}")
    typer.echo(f"{target.name} is ready: its metrics are {', '.join(metric.name for metric in target.metrics)}")


def _row(target: Target) -> dict[str, str]:
    try:
        device_fingerprint(target)
        state = "ready"
    except SecateurError as error:
        state = "needs setup" if error.hint and error.hint.startswith("secateur target setup") else "needs a package"
    notes = {"about": target.settings.about, "note": target.shadow or ""}
    return {"name": target.name, "kind": target.kind, "state": state, **notes}
