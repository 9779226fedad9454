"""Plan the honest yardstick of a pruning: the source, uniformly narrower to the same MACs, trained from scratch.

Two actions stand for it: `narrow[1]` makes the network, `narrow` trains it. It has as many channels as what pruning
reached has MACs for, so it takes the pruned model; and as many steps as all trainings of the recipe together.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import Narrows, TrainsFromScratch
from pipeline.contracts.stage import StageConfig
from pipeline.errors import RecipeError, listed
from pipeline.planning.chain import Branch, Chain, Node
from pipeline.planning.implied import add_followers
from pipeline.planning.inputs import inputs_of
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.steps import StageStep
from pipeline.records.manifest import NARROW


@dataclass(frozen=True, slots=True)
class Narrow:
    """Hold how a recipe's narrower network is made and trained: each a stage and its settings.

    It is as costly as what the step `pruning` makes; its actions stand `after` the last step that prunes or trains.
    """

    maker: str
    making: StageConfig
    trainer: str
    training: StageConfig
    pruning: StageStep
    after: StageStep


def narrow_of(recipe: Recipe, source_epochs: int) -> Narrow:
    """Return what the recipe asks for by `control: {narrow: true}`; the source was trained for `source_epochs`.

    RecipeError if the recipe takes no channels away, or trains nothing.
    """
    maker = next((name for name, stage in stages().items() if isinstance(stage, Narrows)), None)
    if maker is None:
        raise _refused(recipe, "no stage that is installed makes a network narrower", "install secateur again")
    prunings = [(step, making) for step in recipe.steps if (making := _making(maker, step)) is not None]
    if not prunings:
        what = "no stage of the recipe takes channels away, so there is no width to compare with"
        raise _refused(recipe, what, "prune channels, or leave narrow out")
    trainings = [step for step in recipe.steps if isinstance(stages()[step.stage], TrainsFromScratch)]
    if not trainings:
        names = [f"`- {name}`" for name, stage in stages().items() if isinstance(stage, TrainsFromScratch)]
        what = "the recipe trains nothing, so there is no number of steps for a network from scratch"
        raise _refused(recipe, what, f"add {listed(names, 'or')}, or leave narrow out")
    (pruning, making), last = prunings[-1], trainings[-1]
    trainer = stages()[last.stage]
    assert isinstance(trainer, TrainsFromScratch)
    training = trainer.from_scratch([step.config for step in trainings if step.stage == last.stage], source_epochs)
    after = max(pruning, last, key=lambda step: step.index)
    return Narrow(maker, making, last.stage, training, pruning, after)


def add_narrow(chain: Chain, narrow: Narrow) -> None:
    """Add the two actions, and the evaluation of what they make."""
    assert chain.source is not None
    step = narrow.after
    pruned = next(
        node for node in chain.nodes if (node.step, node.stage) == (narrow.pruning.index, narrow.pruning.stage)
    )
    inputs = inputs_of(chain, step, Branch(pruned), narrow.making, narrow.maker)
    made = chain.add(Node(f"{NARROW}[1]", narrow.maker, None, narrow.making, inputs, NARROW, step.index))
    untrained = Branch(made, None, chain.source)
    inputs = inputs_of(chain, step, untrained, narrow.training, narrow.trainer)
    node = chain.add(Node(NARROW, narrow.trainer, None, narrow.training, inputs, NARROW, step.index))
    add_followers(chain, Branch(node, None, untrained), step)


def _making(maker: str, step: StageStep) -> StageConfig | None:
    stage = stages()[maker]
    assert isinstance(stage, Narrows)
    return stage.narrowing(step.config)


def _refused(recipe: Recipe, what: str, hint: str) -> RecipeError:
    where = recipe.source.where(("control", "narrow"))
    return RecipeError(f"control.narrow: {what}", where=where, hint=hint)
