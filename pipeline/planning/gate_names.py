"""Check before anything runs that gates name metrics that the recipe's actions produce."""

from __future__ import annotations

from pipeline.errors import RecipeError
from pipeline.planning.chain import Chain
from pipeline.planning.gate_metrics import check_gate_metrics, metrics_of_node
from pipeline.recipe.errors import nearest
from pipeline.records.declared import comparison
from pipeline.records.manifest import SOURCE
from pipeline.records.metrics import metric_and_output, name_and_metric


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
    check_gate_metrics(chain)


def _metrics_of(chain: Chain, name: str) -> set[str]:
    """Return the metrics that a NAME may have, including comparisons with the source; outputs are not distinguished."""
    known = {metric for node in chain.nodes if node.name == name for metric in metrics_of_node(node, chain.recipe)}
    return known if name == SOURCE else known | {drop for metric in known if (drop := comparison(metric))}
