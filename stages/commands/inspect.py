"""Show a network's layers and channel groups, and how much of it can be pruned (`secateur inspect`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import JsonOption, print_json
from pipeline.data import data_source
from pipeline.data.table import Shapes
from pipeline.errors import SecateurError, numbered
from pipeline.recipe.model_files import make_importable
from pipeline.recipe.model_spec import Application, ModelFiles
from pipeline.recipe.recipe import Recipe
from pipeline.reports.table import count, macs_notes
from stages.commands.sizes import SETTING, SizesOption, read_sizes

if TYPE_CHECKING:
    from stages.prune.inspection import GroupLine, Inspection, LayerLine

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A model file, a recipe, or a name of tf_keras.applications.", show_default=False
    ),
]
WIDTH = 100


TrustOption = Annotated[bool, typer.Option("--trust", help="Let code in the model file (Lambda layers) run.")]


def command(
    model: ModelArgument, as_json: JsonOption = False, trust: TrustOption = False, sizes: SizesOption = None
) -> None:
    """Show a model's layers and channel groups, and what pruning can take."""
    chosen = read_sizes(sizes)
    from stages.keras.free_sizes import Wanted
    from stages.keras.tensorflow import tensorflow_action
    from stages.load import load_model
    from stages.load.not_finite import broken_weight
    from stages.prune.inspection import inspect_model

    source, samples = _source(model), () if chosen is not None else _samples(model)
    wanted = Wanted(chosen, samples, "model.sizes" if chosen is None else SETTING)
    if chosen is not None:
        source = source.model_copy(update={"sizes": None})
    if trust and isinstance(source, ModelFiles):
        source = source.model_copy(update={"trust": True})
    with tensorflow_action(seed=0, threads=2):
        network = load_model(source, wanted=wanted).model
        report, broken = inspect_model(network, model), broken_weight(network)
    if broken is not None:
        typer.echo(f"warning: {broken}: no criterion can rank it", err=True)
    if as_json:
        print_json(report)
    else:
        typer.echo(text_of(report))


def _source(model: str) -> ModelFiles | Application:
    """Return what `load` takes: only structure counts here, so applications get no trained weights."""
    path = Path(model)
    if _is_recipe(path):
        return _of_recipe(Recipe.load(path))
    if path.exists() or not model.isidentifier():
        return ModelFiles(path=path)
    return Application(application=model, weights=None)


def _is_recipe(path: Path) -> bool:
    return path.suffix in (".yaml", ".yml")


def _samples(model: str) -> tuple[Shapes, ...]:
    """Return the sample shapes of the data that a recipe names; nothing if there is no data yet."""
    path = Path(model)
    recipe = Recipe.load(path) if _is_recipe(path) else None
    if recipe is None or recipe.data is None:
        return ()
    try:
        return data_source(recipe.data, recipe.folder, recipe.seed).shapes()
    except SecateurError as error:
        typer.echo(f"warning: {error.what}: its size is not known", err=True)
        return ()


def _of_recipe(recipe: Recipe) -> ModelFiles | Application:
    if isinstance(recipe.model, Application):
        return recipe.model.model_copy(update={"weights": None})
    make_importable(recipe)
    named = recipe.model if isinstance(recipe.model, ModelFiles) else ModelFiles(path=recipe.model)
    paths = {"path": recipe.folder / named.path.expanduser()}
    if named.weights is not None:
        paths["weights"] = recipe.folder / named.weights.expanduser()
    return named.model_copy(update=paths)


def text_of(found: Inspection) -> str:
    """Format three parts: layers, groups, and one line that says what can be removed."""
    free = [group for group in found.groups if not group.frozen]
    sizes = f"{numbered(len(found.layers), 'layer')} · {count(found.params)} params · {_macs(found)}"
    shares = f"{found.prunable_macs_share:.1%} of the MACs and {found.prunable_params_share:.1%} of the parameters"
    layers = [_layer_cells(line) for line in found.layers]
    groups = [_group_cells(group) for group in found.groups]
    return "\n".join(
        [
            f"{found.source} · {found.name} · {sizes}",
            "",
            *_table(("layer", "kind", "output", "params", "MACs"), layers, range(3, 5)),
            "",
            *_table(("group", "channels", "made by → read by, or why frozen"), groups, range(1, 2)),
            "",
            f"{len(free)} of {len(groups)} groups can be pruned: at most {shares} can go",
            *macs_notes(found.macs_unknown, found.macs_size),
        ]
    )


def _macs(inspection: Inspection) -> str:
    return f"{'' if inspection.macs_exact else 'at least '}{count(inspection.macs)} MACs"


def _layer_cells(line: LayerLine) -> tuple[str, ...]:
    shape = "" if line.output is None else "×".join("?" if size is None else str(size) for size in line.output)
    params, macs = (count(number) if number else "" for number in (line.params, line.macs))
    return line.name, line.kind, shape, params, macs if line.macs_exact else f"≥ {count(line.macs)}"


def _group_cells(group: GroupLine) -> tuple[str, ...]:
    if group.frozen:
        return group.name, str(group.channels), f"frozen: {'; '.join(group.frozen)}"
    return group.name, str(group.channels), f"{_few(group.makers)} → {_few(group.consumers)}"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], numbers: range) -> list[str]:
    """Align lines of at most WIDTH columns; numbers are right-aligned."""
    lines = [heads, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    widths[0] = min(widths[0], 40)
    printed = []
    for line in lines:
        cells = [
            _cut(cell, width).rjust(width) if column in numbers else _cut(cell, width).ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        printed.append(_cut("  ".join(cells).rstrip(), WIDTH))
    return printed


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
