"""Check before anything runs that gates name metrics that the recipe's actions produce."""

from __future__ import annotations

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import MeasuresOnTarget
from pipeline.data.spec import named_metrics
from pipeline.errors import RecipeError
from pipeline.planning.chain import Chain, Node
from pipeline.planning.label_needs import measured_by_labels
from pipeline.recipe.errors import nearest
from pipeline.recipe.recipe import Recipe
from pipeline.records.declared import comparison
from pipeline.records.manifest import SOURCE
from pipeline.records.metrics import MATRIX, metric_and_output, name_and_metric


def check_gate_names(chain: Chain) -> None:
    """Raise RecipeError if a gate names nothing in the chain, or a metric that its action can't have."""
    names = chain.names()
    for index, gate in enumerate(chain.recipe.gates):
        name, metric = name_and_metric(gate.metric)
        where = chain.recipe.source.where(("gates", index, "metric"))
        if gate.metric in names:
            what = f"gates[{index}].metric: {gate.metric} has many metrics"
            hint = f"{gate.metric}.METRIC, with one of {', '.join(sorted(_metrics_of(chain, gate.metric)))}"
            raise RecipeError(what, where=where, hint=hint)
        if name not in names:
            what = f"gates[{index}].metric: nothing here is called {name or gate.metric!r}"
            raise RecipeError(what, where=where, hint=nearest(name, names))
        known = _metrics_of(chain, name)
        if metric_and_output(metric)[0] not in known:  # the outputs are known only once the model is loaded
            what = f"gates[{index}].metric: {name} has no metric {metric!r}"
            raise RecipeError(what, where=where, hint=nearest(metric, sorted(known)))


def _metrics_of(chain: Chain, name: str) -> set[str]:
    """Return the metrics that a NAME may have, including comparisons with the source; outputs are not distinguished."""
    known = {metric for node in chain.nodes if node.name == name for metric in _metrics(node, chain.recipe)}
    return known if name == SOURCE else known | {drop for metric in known if (drop := comparison(metric))}


def _metrics(node: Node, recipe: Recipe) -> set[str]:
    """Return the flat metrics that a node may have: those of its stage, and those that its configuration requests."""
    asked = named_metrics(getattr(node.config, "metrics", None))
    stage = stages()[node.stage]
    declared = stage.metrics_on(node.config, recipe.folder) if isinstance(stage, MeasuresOnTarget) else stage.metrics
    unlabelled = recipe.data is not None and recipe.data.unlabelled
    own = {metric.name for metric in declared if not metric.is_family and not (unlabelled and metric.needs_labels)}
    known = own | {name for name in asked if not (unlabelled and measured_by_labels(name))}
    files = {metric.name for metric in declared if metric.unit == MATRIX}
    # A function of the user's, `module:function`, gives the metric `function`.
    return {name.rpartition(":")[2] for name in known} - files
