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
from pipeline.data.spec import Metrics, named_metrics
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
        """Tell what the recipe measures, or can measure where the labels are still to tell the task."""
        by_names: dict[tuple[str, ...], list[Task]] = {}
        for task in self.tasks:
            by_names.setdefault(self.measured(task), []).append(task)
        by_names.pop((), None)
        if not by_names:
            return f"nothing is measured from labels{self._of_output()}"
        if len(by_names) == 1:
            (names,) = by_names
            task_words = f" (task {self.tasks[0]})" if len(self.tasks) == 1 else ""
            return f"the recipe measures {listed(names, 'and')}{self._of_output()}{task_words}"
        each = (f"{listed(names, 'and')} ({listed(tasks, 'or')})" for names, tasks in by_names.items())
        return f"the recipe can measure {listed(each, 'or')}{self._of_output()}"

    def _of_output(self) -> str:
        if self.output is not None:
            return f" of output {self.output!r}"
        several = any(metric_and_output(metric)[1] for metric in self.evaluated or ())
        return " without an output's name" if several else ""

    def hint(self, name: str, bare: str) -> str | None:
        """Tell what to add to `data.metrics`, in words to paste there, or what can be held instead."""
        declaration = declared(bare)
        base = (declaration.of if declaration else None) or bare
        if self.output is None and (outputs := self._outputs_with(base)):
            return f"say {listed((of_output(bare, output) for output in outputs), 'or')}"
        fitting = [task for task in self.tasks if self._fits(task)] or self.tasks
        for task in fitting:
            if base in self.measured(task, (base,)):
                return f"add {base} to data.metrics: {self._with(base, task)}"
        known = {metric for task in fitting for metric in self.metrics_of(name, task) if measured_by_labels(metric)}
        return f"hold {listed(sorted(known), 'or')} instead" if known else None

    def _outputs_with(self, base: str) -> list[str]:
        """Return the outputs by which a metric is measured, or may be where the recipe names several."""
        if self.evaluated is None:
            metrics = self._metrics_of_recipe
            return list(metrics) if isinstance(metrics, dict) and len(metrics) > 1 else []
        pairs = map(metric_and_output, self.evaluated)
        return [output for metric, output in pairs if metric == base and output is not None]

    @property
    def _metrics_of_recipe(self) -> Metrics | None:
        data = self.chain.recipe.data
        return (data.metrics or None) if data is not None else None

    def _chosen(self) -> tuple[str, ...]:
        """Return what the recipe's `data.metrics` names for the output, as it is written there."""
        metrics = self._metrics_of_recipe
        if not isinstance(metrics, dict):
            return metrics or ()
        # Of a model with one output, gates leave out its name.
        return metrics.get(self.output, ()) if self.output is not None else next(iter(metrics.values()))

    def _fits(self, task: Task) -> bool:
        """Return whether a model with one output can have this task: an evaluation refuses metrics of other tasks."""
        if self.output is not None:
            return True
        own = self.measured(task, ())
        # A metric of another task leaves those of the task itself.
        return all(name in own or self.measured(task, (name,)) != own for name in self._chosen())

    def _with(self, base: str, task: Task) -> str:
        """Return `data.metrics` with one more of the output, and without loss of what is measured already."""
        chosen, metrics = self._chosen(), self._metrics_of_recipe
        flat = {name.rpartition(":")[2] for name in chosen}
        names = (*chosen, *(name for name in self.measured(task) if name not in flat), base)
        if not isinstance(metrics, dict):
            return _pasted(names) if metrics or self.output is None else f"{{{self.output}: {_pasted(names)}}}"
        outputs = {**metrics, self.output or next(iter(metrics)): names}
        return f"{{{', '.join(f'{output}: {_pasted(wanted)}' for output, wanted in outputs.items())}}}"


def _pasted(names: Iterable[str]) -> str:
    return f"[{', '.join(names)}]"


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
