"""Find the inputs that a stage declares: which artifact of which node, which data splits, whose code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import HasBaseline, MakesKindsBySettings, NamesMetrics
from pipeline.contracts.stage import AnyStage, Input, StageConfig
from pipeline.data.spec import named_metrics
from pipeline.errors import listed
from pipeline.planning.chain import Branch, Chain, CodeOf, Node, Origin, OutputOf, SplitOf, by_element, error_at
from pipeline.planning.label_needs import require_splits
from pipeline.recipe.steps import StageStep
from pipeline.recipe.user_code import code_input
from pipeline.records.artifacts import Kind
from pipeline.records.manifest import BASELINE


def taken_kinds(stage: AnyStage) -> tuple[Kind, ...]:
    """Return the kinds of branches that a stage runs on: those of its first input of a branch."""
    return next((wanted.kinds for wanted in stage.inputs.values() if wanted.of == "branch"), ())


def inputs_of(chain: Chain, step: StageStep, branch: Branch, config: StageConfig, stage_name: str) -> dict[str, Origin]:
    """Return the inputs of an action on a branch; RecipeError if one is missing.

    `stage_name` is the action's stage: the step's own, or another one that the step implies.
    """
    stage = stages()[stage_name]
    inputs: dict[str, Origin] = {}
    for name, wanted in stage.inputs.items():
        if wanted.when is not None and getattr(config, wanted.when) is None:
            continue
        origin = _artifact(chain, step, branch, wanted, stage_name)
        if origin is not None:
            inputs[name] = origin
        elif wanted.required:
            what = f"{stage_name} needs {name}, which no stage before it makes"
            raise error_at(chain.recipe, step, what, _what_helps(wanted.by or wanted.kinds))
    inputs |= {split: SplitOf(split) for split in require_splits(chain.recipe, stage_name, config, step)}
    metrics = named_metrics(config.metrics) if isinstance(config, NamesMetrics) else ()
    return inputs | {code_input(metric): CodeOf(metric) for metric in metrics if ":" in metric}


def _what_helps(kinds: Sequence[Kind]) -> str:
    """Return which stages make one of these kinds, and for some whether they do depends on their settings."""
    makers = {name: stage for name, stage in stages().items() if set(stage.outputs) & set(kinds)}
    by_settings = [name for name, stage in makers.items() if isinstance(stage, MakesKindsBySettings)]
    hint = f"it takes {listed(kinds, 'or')}"
    if makers:
        hint += f": put {listed((f'`- {name}`' for name in makers), 'or')} before it"
    return hint + (f" (settings of {listed(by_settings, 'and')} say what it makes)" if by_settings else "")


def _artifact(chain: Chain, step: StageStep, branch: Branch, wanted: Input, stage_name: str) -> Origin | None:
    """Return the artifact that an input asks for, if there is one."""
    match wanted.of:
        case "branch":
            return branch.output(wanted.kinds)
        case "ancestor":
            return _nearest(branch, wanted.kinds)
        case "source":
            return _source(chain, wanted.kinds)
        case "baseline":
            return _baseline(chain, step, branch).output(wanted.kinds)
        case "first":
            first = next((node for node in chain.nodes if node.stage == stage_name), None)
            return _taken(first) if first is not None else None
        case "taken":
            maker = next((ancestor for ancestor in branch.lineage() if ancestor.output(wanted.by)), None)
            return _taken(maker.node) if maker is not None else None
        case "original":
            first = next((node for node in chain.nodes if Branch(node).output(wanted.by)), None)
            return _taken(first) if first is not None else _source(chain, wanted.kinds)


def _source(chain: Chain, kinds: Sequence[Kind]) -> OutputOf | None:
    return chain.source.output(kinds) if chain.source else None


def _taken(node: Node) -> Origin:
    """Return the branch that an action takes."""
    declared = stages()[node.stage].inputs
    return node.inputs[next(name for name, wanted in declared.items() if wanted.of == "branch")]


def _nearest(branch: Branch, kinds: Sequence[Kind]) -> OutputOf | None:
    return next((output for ancestor in branch.lineage() if (output := ancestor.output(kinds))), None)


def _baseline(chain: Chain, step: StageStep, branch: Branch) -> Branch:
    """Return what the source becomes by the stages that made this branch from its model; made when first needed."""
    assert chain.source is not None
    models = set(chain.source.kinds)
    path = []
    for ancestor in branch.lineage():
        if models & set(ancestor.kinds):
            break
        path.append(ancestor)
    made, node_id = chain.source, BASELINE
    for ancestor in reversed(path):
        stage, config, element = stages()[ancestor.node.stage], ancestor.node.config, ancestor.element
        if made is not chain.source:
            # Ids are part of the contract: `baseline`, then `baseline:tflite` (docs/design/planning.md).
            node_id = f"{node_id}:{element or ancestor.node.stage}"
        if isinstance(stage, HasBaseline) and stage.axis is not None:
            ((element, config),) = by_element(stage.baseline(), stage.axis.setting).items()
        if node_id not in chain.baselines:
            axis = stage.axis.place(element, made.node.axis) if stage.axis and element else made.node.axis
            inputs = inputs_of(chain, step, made, config, ancestor.node.stage)
            node = replace(
                ancestor.node, id=node_id, axis=axis, config=config, inputs=inputs, name=None, step=step.index
            )
            chain.baselines[node_id] = Branch(chain.add(node), element, made)
        made = chain.baselines[node_id]
    return made
