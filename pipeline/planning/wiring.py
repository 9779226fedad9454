"""Turn a recipe into its actions, by what its stages declare: which feeds which, what fans out, and what is implied.

No stage is known here by its name. A stage runs on each branch of the kinds that its inputs take, once for each element
of its axis; what it implies besides (`implied.py`) are evaluations, the control, the narrower network
(`narrow.py`) and the baselines.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import FillsFromData, OpensModel, Refuses, SkipsUnsupported
from pipeline.contracts.stage import AnyStage, StageConfig
from pipeline.errors import RecipeError, listed
from pipeline.planning.chain import Branch, Chain, ModelFile, Node, by_element, error_at, where_of_target
from pipeline.planning.gate_names import check_gate_names
from pipeline.planning.implied import add_control, add_followers
from pipeline.planning.inputs import inputs_of, taken_kinds
from pipeline.recipe.model_files import roles
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.steps import StageStep


def build_chain(recipe: Recipe) -> Chain:
    """Build the recipe's actions; RecipeError if its stages don't fit together or a gate names nothing."""
    chain, narrow = Chain(recipe), None
    if recipe.source_epochs is not None:
        from pipeline.planning.narrow import add_narrow, narrow_of

        narrow = narrow_of(recipe, recipe.source_epochs)
    for step in recipe.steps:
        stage = stages()[step.stage]
        if isinstance(stage, OpensModel):
            _open_model(chain, step, stage)
        elif chain.source is None:
            openers = [name for name, other in stages().items() if isinstance(other, OpensModel)]
            hint = f"begin the stages with {listed((f'`- {name}`' for name in openers), 'or')}"
            raise error_at(recipe, step, f"{step.stage} has no model yet", hint)
        else:
            _add_step(chain, step, stage)
        if narrow is not None and narrow.after is step:
            add_narrow(chain, narrow)
    check_gate_names(chain)
    return chain


def _open_model(chain: Chain, step: StageStep, stage: OpensModel) -> None:
    if chain.source is not None:
        raise error_at(chain.recipe, step, "the model is loaded already", "one recipe takes one model")
    if step.config != type(step.config)():
        what = f"{step.stage} has no settings here"
        raise error_at(chain.recipe, step, what, "write them at the top, in `model: {…}`")
    model = chain.recipe.model
    node = Node(
        step.id,
        step.stage,
        None,
        stage.opening(model),
        {role: ModelFile(role) for role in roles(model)},
        None,
        step.index,
    )
    chain.source = Branch(chain.add(node))
    chain.branches = [chain.source]
    add_followers(chain, chain.source, step)


def _add_step(chain: Chain, step: StageStep, stage: AnyStage) -> None:
    """Add the actions of a step: on each branch that its stage takes, for each element of its axis."""
    made = []
    for branch, element, config in _combinations(chain, step, stage):
        axis = stage.axis.place(element, branch.node.axis) if stage.axis and element else branch.node.axis
        reason = _refusal(chain, step, config, branch, axis)
        if reason is not None:
            _leave_out(chain, step, stage, axis, reason)
            continue
        named = stage.axis is None or stage.axis.named
        node = Node(
            id=step.id if axis is None else f"{step.id}:{axis}",
            stage=step.stage,
            axis=axis,
            config=config,
            inputs=inputs_of(chain, step, branch, config, step.stage),
            name=(axis or step.id) if named else None,
            step=step.index,
            can_be_left_out=_skips(step.config),
        )
        made.append(Branch(chain.add(node), element, branch))
        add_followers(chain, made[-1], step)
    chain.replace(stage.outputs, made)
    add_control(chain, step)


def _combinations(chain: Chain, step: StageStep, stage: AnyStage) -> Iterator[tuple[Branch, str | None, StageConfig]]:
    """Yield each branch that a step can take with each element of its axis and the settings for that element."""
    data, config, branches = chain.recipe.data, step.config, _candidates(chain, step, stage)
    if data is not None and isinstance(stage, FillsFromData):
        config = stage.filled(config, data, chain.recipe.folder)
    if stage.axis is None:
        yield from ((branch, None, config) for branch in branches)
        return
    elements = by_element(config, stage.axis.setting).items()
    if stage.axis.form.startswith("{element}"):
        yield from ((branch, element, own) for (element, own), branch in product(elements, branches))
    else:
        yield from ((branch, element, own) for branch, (element, own) in product(branches, elements))


def _candidates(chain: Chain, step: StageStep, stage: AnyStage) -> list[Branch]:
    """Return the branches made by stages that can make what this one takes.

    A stage that can refuse is asked about all of them; for others, those of other kinds do not count.
    """
    kinds = taken_kinds(stage)
    branches = [branch for branch in chain.branches if set(stages()[branch.node.stage].outputs) & set(kinds)]
    if not isinstance(stage, Refuses):
        branches = [branch for branch in branches if branch.output(kinds)]
    if branches:
        return branches
    what = f"{step.stage} takes {listed(kinds, 'or')}, and nothing before it makes one"
    makers = [f"`- {name}{_written(maker)}`" for name, maker in stages().items() if set(maker.outputs) & set(kinds)]
    raise error_at(chain.recipe, step, what, f"{listed(makers, 'or')} makes one" if makers else None)


def _written(stage: AnyStage) -> str:
    return f": {{{stage.axis.setting}: […]}}" if stage.axis else ""


def _refusal(chain: Chain, step: StageStep, config: StageConfig, branch: Branch, axis: str | None) -> str | None:
    """Return why the stage can't take a branch, or None; RecipeError if its settings name what does not exist."""
    stage = stages()[step.stage]
    if not isinstance(stage, Refuses):
        return None
    try:
        return stage.refuses(config, str(axis), branch.upstream(taken_kinds(stage)), chain.recipe.folder)
    except RecipeError as error:
        if error.where:
            raise
        where = where_of_target(chain.recipe, step, step.stage, config)
        raise RecipeError(error.what, where=where, hint=error.hint) from error


def _leave_out(chain: Chain, step: StageStep, stage: AnyStage, axis: str | None, reason: str) -> None:
    """Note that an action is left out, or refuse the recipe if its settings say so."""
    if isinstance(step.config, SkipsUnsupported) and not _skips(step.config):
        hint = f"leave it out, or set `unsupported: skip` under {step.stage}"
        raise error_at(chain.recipe, step, f"{step.stage} of {axis} is impossible: {reason}", hint)
    chain.skipped[str(axis) if stage.axis else f"{step.stage} of {axis}"] = reason


def _skips(config: StageConfig) -> bool:
    return isinstance(config, SkipsUnsupported) and config.unsupported == "skip"
