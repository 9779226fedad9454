"""Implement the narrow stage: the network beside which a pruned one is judged, before its training."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from pipeline.contracts.stage import Axis, Input, StageConfig, StageContext, StageResult
from pipeline.errors import PostconditionError, PreconditionError, first_few
from pipeline.records.artifacts import Artifact, Kind
from pipeline.records.facts import KerasFacts
from pipeline.records.metrics import COUNTED, Metric, counted
from pipeline.reports.command_lines import SURGEON, install
from stages.prune.config import PruneConfig
from stages.prune.narrow.config import NarrowConfig
from stages.samples.checks import keras_facts_of

if TYPE_CHECKING:
    from stages.prune.narrow.fresh_weights import Untrained

TOLERANCE = 0.02  # of the pruned model's MACs: a difference above it is told


class NarrowStage:
    """Make the source uniformly narrower, to the MACs of the pruned model, and give it random weights.

    The planner adds it where a recipe asks for `control: {narrow: true}`, and has the result trained.
    """

    name: ClassVar[str] = "narrow"
    version: ClassVar[int] = 1
    config: ClassVar[type[StageConfig]] = NarrowConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "model": Input(("keras-model",)),  # the pruned one: only its MACs count
        "source": Input(("keras-model",), of="source"),
    }
    outputs: ClassVar[tuple[Kind, ...]] = ("keras-model",)
    axis: ClassVar[Axis | None] = None
    seeded: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        *COUNTED,
        Metric("width", "share", lower_is_better=None, told="{:.3f} of each group's channels"),
    )
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "h5py", "kerassurgeon", "numpy")

    def narrowing(self, pruning: StageConfig) -> NarrowConfig | None:
        """Return the settings beside a pruning; None beside anything that takes no channels away."""
        if not isinstance(pruning, PruneConfig) or pruning.method != "structured":
            return None
        return NarrowConfig.beside(pruning)

    def splits(self, config: NarrowConfig) -> tuple[str, ...]:
        return ()

    def requires(self, config: NarrowConfig, inputs: Mapping[str, Artifact]) -> None:
        """Check that MACs can be equal; PreconditionError if those of a layer are not known."""
        if find_spec("kerassurgeon") is None:
            raise PreconditionError("narrowing needs kerassurgeon, which is not installed", hint=install(*SURGEON))
        for artifact in inputs.values():
            unknown = keras_facts_of(artifact).macs_unknown
            if unknown:
                what = f"the MACs of {unknown[0]} are not known: no network of equal MACs can be made"
                raise PreconditionError(what, where="control.narrow", hint="leave narrow out")

    def run(self, context: StageContext[NarrowConfig]) -> StageResult:
        from stages.keras.normal_form import keras_facts
        from stages.keras.stored import shared_model, write_model
        from stages.keras.tensorflow import tensorflow_action
        from stages.prune.narrow.fresh_weights import untrained
        from stages.prune.narrow.uniform_width import narrowed

        wanted = keras_facts_of(context.inputs["model"]).macs
        with tensorflow_action(context.seed, context.threads):
            narrow = narrowed(shared_model(context, "source"), wanted, context.config)
            fresh = untrained(narrow.model, context.seed)
            facts = keras_facts(fresh.model)
            artifact = Artifact(files=(write_model(context, fresh.model),), facts=facts)
        if abs(facts.macs - wanted) > TOLERANCE * wanted:
            of_source = keras_facts_of(context.inputs["source"]).macs
            context.events.warned(
                f"the uniformly narrower network has {facts.macs / of_source:.3f} of the source's MACs, the pruned one "
                f"{wanted / of_source:.3f}: round_to {context.config.round_to}, min_channels "
                f"{context.config.min_channels} and exclude permit no nearer width"
            )
        for warning in _warnings(fresh):
            context.events.warned(warning)
        return StageResult((artifact,), {**counted(facts), "width": narrow.width})

    def ensures(self, context: StageContext[NarrowConfig], result: StageResult) -> None:
        """Check that the narrower network takes and gives what the source does."""
        facts, source = keras_facts_of(result.outputs[0]), keras_facts_of(context.inputs["source"])
        if _shapes(facts) != _shapes(source):
            raise PostconditionError("the narrower network has other inputs or outputs than the source", where="narrow")


def _shapes(facts: KerasFacts) -> list[tuple[tuple[int | None, ...], str]]:
    """Return shapes and types of inputs and outputs. A nested model may have named a single output, and is gone."""
    return [(spec.shape, spec.dtype) for spec in (*facts.inputs, *facts.outputs)]


def _warnings(fresh: Untrained) -> list[str]:
    """Return what is unusual about the fresh weights."""
    told = (
        (fresh.thawed, "frozen in the source are trained in the narrower network, whose weights are random"),
        (fresh.kept, "keep the source's values: their initializers are not known"),
        (fresh.alike, "begin with all weights equal, as their initializers say"),
    )
    return [f"{first_few(names)} {what}" for names, what in told if names]
