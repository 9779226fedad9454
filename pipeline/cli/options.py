"""Define options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from pipeline.store import STORE_VARIABLE, Store, default_store

RecipeArgument = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.", show_default=False)]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="K=V", help="Override a value, such as stages.prune.ratio=0.3; repeatable."),
]
StoreOption = Annotated[
    Path | None,
    typer.Option("--store", metavar="DIR", envvar=STORE_VARIABLE, help="The artifact store.", show_default=False),
]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")]
ForceOption = Annotated[
    str | None, typer.Option("--force-from", metavar="STAGE", help="Run this stage and those after it again.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def open_store(path: Path | None) -> Store:
    """Open the store that the user named, or the default one."""
    return Store((path or default_store()).expanduser())


def print_json(document: BaseModel) -> None:
    """Print one JSON document on stdout."""
    print(document.model_dump_json(indent=1))
