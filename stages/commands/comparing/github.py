"""Format the answer for GitHub Actions: annotations at the threshold, and the step's summary.

An annotation points at the line of the recipe that bounds the metric: a gate on it, else the stage that measures it.
More than five hide each other, so the last one counts the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import MeasuresOnTarget
from pipeline.contracts.stage import AnyStage
from pipeline.errors import SecateurError
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.yaml_source import YamlSource
from pipeline.records.manifest import RunManifest
from stages.commands.comparing.compared import compared, gated_as
from stages.commands.comparing.forms import markdown_of, text_of
from stages.commands.comparing.result import ComparisonReport, MetricResult, PairResult
from stages.commands.comparing.words import sentence

MOST_ANNOTATIONS = 5
SUMMARY = "GITHUB_STEP_SUMMARY"
RECIPE_FOLDERS = ("", "configs", "recipes")
LEVELS = {"regression": "error", "inconclusive": "warning"}


def github_of(report: ComparisonReport, recipe: Recipe | None) -> str:
    """Return annotations, at most five, then the text; a step's log shows both."""
    return "\n".join([*annotation_lines(report, recipe), text_of(report)])


def annotation_lines(report: ComparisonReport, recipe: Recipe | None) -> list[str]:
    """Return workflow commands, regressions first (docs.github.com: "Workflow commands for GitHub Actions")."""
    findings = [*report.findings("regression"), *report.findings("inconclusive")]
    shown = findings[:MOST_ANNOTATIONS]
    lines = []
    for index, (pair, metric) in enumerate(shown):
        more = len(findings) - len(shown) if index == len(shown) - 1 else 0
        text = sentence(pair, metric) + (f"; and {more} more, see the step's summary" if more else "")
        lines.append(_command(pair, metric, text, recipe))
    return lines


def _command(pair: PairResult, result: MetricResult, text: str, recipe: Recipe | None) -> str:
    properties = {"title": f"{result.verdict}: {result.name} of {pair.name}"}
    if recipe is not None:
        file, line = threshold(recipe, pair, result)
        properties = {"file": file, "line": str(line), **properties}
    parameters = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{LEVELS[str(result.verdict)]} {parameters}::{_message(text)}"


def threshold(recipe: Recipe, pair: PairResult, found: MetricResult) -> tuple[str, int]:
    """Return file and line of the gate that bounds the metric, else of the measuring stage, else the first line."""
    names = {pair.name, f"{pair.name}@{found.target}"}
    for metric in gated_as(found.metric):
        for index, gate in enumerate(recipe.gates):
            name, _, gated = gate.metric.rpartition(".")
            if gated == metric and name in names:
                bound = "max" if gate.max is not None else "min"
                return _place(recipe.source, ("gates", index, bound))
    step = next((step for step in recipe.steps if _measures(stages()[step.stage], found)), None)
    return _place(recipe.source, step.path if step else ())


def _measures(stage: AnyStage, result: MetricResult) -> bool:
    """Return whether a stage of a recipe gives the number: on a target, or what it declares itself."""
    measures = isinstance(stage, MeasuresOnTarget)
    return measures if result.target is not None else not measures and compared()[result.metric] in stage.metrics


def _place(source: YamlSource, path: tuple[str | int, ...]) -> tuple[str, int]:
    # `where` gives `file:line:column`, three blanks and the setting's name.
    location = source.where(path).partition("   ")[0]
    line = location.removeprefix(f"{source.file}").strip(":").partition(":")[0]
    file = source.file.resolve()
    root = Path(os.environ.get("GITHUB_WORKSPACE", Path.cwd())).resolve()
    shown = file.relative_to(root) if file.is_relative_to(root) else source.file
    return shown.as_posix(), int(line or 1)


def _message(text: str) -> str:
    """Escape data as actions/toolkit does."""
    # The percent sign first, since the other escapes contain it.
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def recipe_of(runs: Iterable[RunManifest | None], folder: Path) -> Recipe | None:
    """Find the recipe of one of these runs in `folder`, or in its configs/ or recipes/; None if there is none."""
    digests = {run.recipe_digest for run in runs if run is not None}
    if not digests:
        return None
    for path in (path for name in RECIPE_FOLDERS for path in sorted((folder / name).glob("*.yaml"))):
        # A pipe can have the name of a recipe, and reading one that nobody writes to never ends.
        if not path.is_file():
            continue
        try:
            recipe = Recipe.load(path)
        except SecateurError:
            continue  # most YAML files are not recipes
        if recipe.digest in digests:
            return recipe
    return None


def write_summary(report: ComparisonReport) -> None:
    """Append the Markdown to the step's summary if there is one."""
    file = os.environ.get(SUMMARY)
    if not file:
        return
    try:
        with Path(file).open("a", encoding="utf-8") as summary:
            summary.write(markdown_of(report) + "\n")
    except OSError as error:
        what = f"the step's summary can't be written: {error.strerror or error}"
        raise SecateurError(what, where=f"{SUMMARY}={file}", hint="unset it to go without") from error
