"""Refuse gates on metrics that the recipe's actions will not have, as far as it is known what the targets are.

What is measured from labels depends on the task of each output and on `data.metrics`. The recipe may say the task; else
it is told from the labels, and the first evaluation shows which tasks are possible: then the gates are checked again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import MeasuresByTask, MeasuresOnTarget
from pipeline.data.samples import Task
from pipeline.data.spec import named_metrics
from pipeline.errors import RecipeError, listed
from pipeline.planning.chain import Chain, Node
from pipeline.planning.label_needs import measured_by_labels
from pipeline.recipe.recipe import Recipe
from pipeline.records.declared import comparison, declared
from pipeline.records.manifest import SOURCE
from pipeline.records.metrics import MATRIX, Metric, metric_and_output, name_and_metric, of_output

LABELLED: tuple[Task, ...] = ("classes", "multilabel", "regression")


def metrics_of_node(node: Node, recipe: Recipe) -> set[str]:
    """Return the flat metrics that a node may have: those of its stage, and those that its configuration requests."""
    asked = named_metrics(getattr(node.config, "metrics", None))
    unlabelled = recipe.data is not None and recipe.data.unlabelled
    metrics = stage_metrics(node, recipe)
    own = {metric.name for metric in metrics if not metric.is_family and not (unlabelled and metric.needs_labels)}
    known = own | {name for name in asked if not (unlabelled and measured_by_labels(name))}
    files = {metric.name for metric in metrics if metric.unit == MATRIX}
    # A function of the user's, `module:function`, gives the metric `function`.
    return {name.rpartition(":")[2] for name in known} - files


def check_gate_metrics(chain: Chain, evaluated: Mapping[str, float] | None = None) -> None:
    """Raise RecipeError if a gate names a metric that its actions will not have, whatever the targets may still be.

    `evaluated` has the metrics of the source's evaluation, by output, once it is done.
    """
    names = chain.names()
    for index, gate in enumerate(chain.recipe.gates):
        name, metric = name_and_metric(gate.metric)
        bare, output = metric_and_output(metric)
        if name not in names:
            continue
        possible = _Possible(chain, output, evaluated)
        if possible.has(name, bare, possible.tasks):
            continue
        # Of the whole recipe it was checked before: this chain may end before what measures it (`--until`).
        if evaluated is not None and not possible.has(name, bare, LABELLED):
            continue
        what = f"gates[{index}].metric: {name} will have no {metric!r}: {possible.told()}"
        where = chain.recipe.source.where(("gates", index, "metric"))
        raise RecipeError(what, where=where, hint=possible.hint(name, bare))


@dataclass(frozen=True)
class _Possible:
    """Hold what an output may have; `output` is None for that of a model with one."""

    chain: Chain
    output: str | None
    evaluated: Mapping[str, float] | None

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """Return the tasks that the output can have: those that fit the recipe, and what the source was measured by."""
        said = _said_tasks(self.chain.recipe, self.output)
        if self.evaluated is None:
            return said
        numbers = {name for task in LABELLED for name in self.measured(task)}
        here = {bare for bare, output in map(metric_and_output, self.evaluated) if output == self.output} & numbers
        # An output without any has no labels, or it is one of several and the gate does not say which.
        return tuple(task for task in said if set(self.measured(task)) == here) or (said if here else ("unlabelled",))

    def measured(self, task: Task, metrics: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """Return what is measured of the source from labels, as the recipe says or if `metrics` were its metrics."""
        found: list[str] = []
        for node in _called(self.chain, SOURCE):
            stage, config = stages()[node.stage], node.config
            if isinstance(stage, MeasuresByTask):
                asked = config if metrics is None else config.model_copy(update={"metrics": metrics})
                found += stage.measured(asked, task, self.output)
        return tuple(dict.fromkeys(found))

    def has(self, name: str, bare: str, tasks: Iterable[Task]) -> bool:
        """Return whether a NAME has a metric, without output, for any of these tasks."""
        return any(bare in self.metrics_of(name, task) for task in tasks)

    def metrics_of(self, name: str, task: Task) -> set[str]:
        """Return the metrics of a NAME for this task, with comparisons of what the source has too."""
        own = self._metrics(name, task)
        compared = own & self._metrics(SOURCE, task) if name != SOURCE else set[str]()
        return own | {change for metric in compared if (change := comparison(metric))}

    def _metrics(self, name: str, task: Task) -> set[str]:
        recipe, found = self.chain.recipe, set[str]()
        for node in _called(self.chain, name):
            stage = stages()[node.stage]
            if isinstance(stage, MeasuresByTask):
                found |= {metric.name for metric in stage_metrics(node, recipe) if not metric.needs_labels}
                found |= set(stage.measured(node.config, task, self.output))
            else:
                found |= metrics_of_node(node, recipe)
        return found

    def told(self) -> str:
        """Tell what the recipe measures."""
        measured = dict.fromkeys(name for task in self.tasks for name in self.measured(task))
        if not measured:
            of = f"of output {self.output!r}" if self.output else "without an output's name"
            return f"nothing is measured from labels {of}"
        of = f" of output {self.output!r}" if self.output else ""
        task = f" (task {self.tasks[0]})" if len(self.tasks) == 1 else ""
        return f"the recipe measures {listed(measured, 'and')}{of}{task}"

    def hint(self, name: str, bare: str) -> str | None:
        """Tell what to add to `data.metrics`, or what can be held instead."""
        declaration = declared(bare)
        base = (declaration.of if declaration else None) or bare
        named = [metric for metric in self.evaluated or () if metric_and_output(metric)[0] == base]
        if self.output is None and named:
            return f"say {listed((of_output(bare, metric_and_output(metric)[1]) for metric in named), 'or')}"
        for task in self.tasks:
            if base in self.measured(task, (base,)):
                names = f"[{', '.join((*self.measured(task), base))}]"
                return f"add {base} to data.metrics: " + (f"{{{self.output}: {names}}}" if self.output else names)
        known = {metric for task in self.tasks for metric in self.metrics_of(name, task) if measured_by_labels(metric)}
        return f"hold {listed(sorted(known), 'or')} instead" if known else None


def stage_metrics(node: Node, recipe: Recipe) -> tuple[Metric, ...]:
    """Return what a node's stage declares of its metrics."""
    stage = stages()[node.stage]
    return stage.metrics_on(node.config, recipe.folder) if isinstance(stage, MeasuresOnTarget) else stage.metrics


def _said_tasks(recipe: Recipe, output: str | None) -> tuple[Task, ...]:
    """Return the tasks that an output can have by what the recipe says; all if it leaves them to the labels."""
    said = recipe.data.task if recipe.data is not None else None
    if isinstance(said, dict):
        said = {output: said[output]} if output in said else said if output is None else {}
        return tuple(dict.fromkeys(said.values())) or LABELLED
    return LABELLED if said is None else (said,)


def _called(chain: Chain, name: str) -> list[Node]:
    return [node for node in chain.nodes if node.name == name]
