"""Implement the strip stage: a model as it will be deployed, with the same outputs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

from pydantic import Field

from pipeline.contracts.stage import Axis, Input, StageConfig, StageContext, StageResult
from pipeline.errors import PostconditionError
from pipeline.records.artifacts import Artifact, Kind
from pipeline.records.metrics import Metric
from stages.strip.facts import StripFacts

TOLERANCE = 1e-6  # nothing is computed in another way
ROUNDING_TOLERANCE = 1e-5  # the same function, with factors in other places or sums in another order


class StripConfig(StageConfig):
    """Set what is removed besides all that only training needs.

    Folding is for runtimes that do not fold themselves, and for training for int8; TFLite's and ONNX Runtime's
    converters fold what they can anyway. Fine-tune first: a folded model has no statistics to train with.
    """

    fold_batch_norm: bool = Field(
        False, description="batch normalization goes into the convolution or dense layer before it, where that is exact"
    )


class StripStage:
    """Convert keras-model → keras-model, without wrappers, training-only layers, regularizers, and sparsity plan."""

    name: ClassVar[str] = "strip"
    version: ClassVar[int] = 3
    config: ClassVar[type[StageConfig]] = StripConfig
    inputs: ClassVar[Mapping[str, Input]] = {"model": Input(("keras-model",))}
    outputs: ClassVar[tuple[Kind, ...]] = ("keras-model", "strip-report")
    axis: ClassVar[Axis | None] = None
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("removed", "count", lower_is_better=None),
        Metric("folded", "count", lower_is_better=None),
        Metric("output_difference", "share", lower_is_better=True),
    )
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "h5py", "tensorflow-model-optimization")

    def splits(self, config: StripConfig) -> tuple[str, ...]:
        return ()

    def requires(self, config: StripConfig, inputs: Mapping[str, Artifact]) -> None:
        """Check nothing: any model can be stripped."""

    def run(self, context: StageContext[StripConfig]) -> StageResult:
        from stages.keras.normal_form import MODEL_FILE, keras_facts
        from stages.keras.sparsity import plan_of
        from stages.keras.stored import shared_model, write_model
        from stages.keras.stripping.layers import strip_model
        from stages.keras.tensorflow import tensorflow_action

        with tensorflow_action(context.seed, context.threads):
            model = shared_model(context, "model")
            plan = plan_of(context)
            if plan and plan.reached_at:
                context.events.warned("the sparsity that prune asked for comes with fine-tuning, and there was none")
            stripped = strip_model(model, fold_batch_norm=context.config.fold_batch_norm)
            difference = output_difference(model, stripped.model)
            unchanged = stripped.model is model
            # The same digest as before, so that nothing that follows has to run again.
            file = context.inputs["model"].file(MODEL_FILE) if unchanged else write_model(context, stripped.model)
            artifact = Artifact(files=(file,), facts=keras_facts(stripped.model))
        report = StripFacts(removed=stripped.removed, folded=stripped.folded, kept=stripped.kept)
        metrics = {"removed": len(stripped.removed), "folded": len(stripped.folded), "output_difference": difference}
        return StageResult((artifact, Artifact(files=(), facts=report)), {k: float(v) for k, v in metrics.items()})

    def ensures(self, context: StageContext[StripConfig], result: StageResult) -> None:
        """Check that stripping changed no output, and folding none by more than rounding."""
        difference = result.metrics["output_difference"]
        tolerance = ROUNDING_TOLERANCE if _rounds_otherwise(result) else TOLERANCE
        # Not `>`: NaN has to fail.
        if not difference <= tolerance:
            what = f"stripping changed the outputs by {difference:.1e} (relative), allowed is {tolerance:.0e}"
            hint = "`fold_batch_norm: false` leaves the numbers as they are" if result.metrics["folded"] else None
            raise PostconditionError(what, where="strip", hint=hint)


def _rounds_otherwise(result: StageResult) -> bool:
    """Return whether rounding differs: folding changed kernels, or recurrent layers run fused without dropout."""
    facts = result.outputs[1].facts
    assert isinstance(facts, StripFacts)
    return bool(facts.folded) or any(note.endswith(": recurrent_dropout") for note in facts.removed)


def output_difference(model: object, stripped: object) -> float:
    """Return the relative output difference on random inputs, before a closing softmax or sigmoid."""
    from stages.keras.closing import before_squashing
    from stages.keras.normal_form import random_inputs
    from stages.keras.rounding import difference_beyond_rounding

    inputs = random_inputs(model)
    with before_squashing(stripped) as after:
        actual = after(inputs, training=False)
    with before_squashing(model) as before:
        run = partial(before, training=False)
        return difference_beyond_rounding(run, inputs, run(inputs), actual)
