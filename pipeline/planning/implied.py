"""Add the actions that a recipe implies without saying so, as its stages declare them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import Follows, TreatsControl
from pipeline.planning.chain import Branch, Chain, Node
from pipeline.planning.inputs import inputs_of
from pipeline.recipe.steps import StageStep
from pipeline.records.manifest import CONTROL, SOURCE


def add_followers(chain: Chain, branch: Branch, step: StageStep) -> None:
    """Add the actions that follow a named result: the evaluation of every Keras model."""
    is_source = branch is chain.source
    name = SOURCE if is_source else branch.node.name
    if name is None:
        return
    for stage_name, stage in _followers().items():
        if stage.follows not in branch.kinds:
            continue
        config = stage.following(chain.recipe.data, source=is_source)
        if config is not None:
            inputs = inputs_of(chain, step, branch, config, stage_name)
            chain.add(Node(f"{stage_name}:{name}", stage_name, None, config, inputs, name, step.index))


@cache
def _followers() -> Mapping[str, Follows]:
    return {name: stage for name, stage in stages().items() if isinstance(stage, Follows)}


def add_control(chain: Chain, step: StageStep) -> None:
    """Add the control's action for a step, if there is to be one: on the source, as often as the recipe has such steps.

    The last one's result is called `control`.
    """
    stage = stages()[step.stage]
    if not (chain.recipe.control and isinstance(stage, TreatsControl)):
        return
    before = chain.control or chain.source
    assert before is not None
    treated = [other.id for other in chain.recipe.steps if isinstance(stages()[other.stage], TreatsControl)]
    last = step.id == treated[-1]
    node_id = CONTROL if last else f"{CONTROL}[{treated.index(step.id) + 1}]"
    config = stage.for_control(step.config)
    inputs = inputs_of(chain, step, before, config, step.stage)
    node = Node(node_id, step.stage, None, config, inputs, CONTROL if last else None, step.index)
    chain.control = Branch(chain.add(node), None, before)
    add_followers(chain, chain.control, step)
