"""The prune stage: a Keras model in, a smaller one and a report out."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from pipeline.artifacts import Artifact, KerasFacts, Kind, PruneFacts
from pipeline.errors import PostconditionError, PreconditionError
from pipeline.packages import INSTALL_SURGEON
from pipeline.stage import Input, StageConfig, StageContext, StageResult
from stages.prune.config import PruneConfig

if TYPE_CHECKING:
    from stages.prune.report import PruneReport

REPORT_FILE = "prune-report.json"
MISS_WORTH_A_WARNING = 0.01  # between the share asked for and the share taken


class PruneStage:
    """Takes whole channels away and proves that nothing else changed."""

    name: ClassVar[str] = "prune"
    version: ClassVar[int] = 1
    config: ClassVar[type[StageConfig]] = PruneConfig
    inputs: ClassVar[Mapping[str, Input]] = {"model": Input(("keras-model",))}
    outputs: ClassVar[tuple[Kind, ...]] = ("keras-model", "prune-report")
    axis: ClassVar[str | None] = None
    seeded: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("params", "macs", "channels_removed", "equivalence_error")
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "h5py", "kerassurgeon", "numpy")

    def splits(self, config: PruneConfig) -> tuple[str, ...]:
        return ()

    def unsupported(self, axis: str) -> str | None:
        return None

    def requires(self, config: PruneConfig, inputs: Mapping[str, Artifact]) -> None:
        if find_spec("kerassurgeon") is None:
            raise PreconditionError("pruning needs kerassurgeon, which is not installed", hint=INSTALL_SURGEON)

    def run(self, context: StageContext[PruneConfig]) -> StageResult:
        from stages.keras_format import MEDIA_TYPE, MODEL_FILE, decode_model, encode_model, keras_facts
        from stages.prune.pruning import prune_model
        from stages.tf_runtime import tensorflow_action

        with tensorflow_action(context.seed, context.threads):
            model = decode_model(context.read("model", MODEL_FILE))
            result = prune_model(model, context.config, seed=context.seed)
            facts = keras_facts(result.model)
            model_file = context.write(MODEL_FILE, encode_model(result.model), MEDIA_TYPE)
        report, config = result.report, context.config
        if abs(report.removed_share - report.ratio) > MISS_WORTH_A_WARNING:
            context.events.warned(
                f"took {report.removed_share:.3f} of the channels, not {report.ratio}: "
                f"round_to {config.round_to} and min_channels {config.min_channels} permit no nearer share"
            )
        report_file = context.write(REPORT_FILE, report.to_json(), "application/json")
        metrics = {
            "params": float(facts.params),
            "macs": float(facts.macs),
            "channels_removed": report.removed_share,
            "equivalence_error": report.equivalence_error,
        }
        outputs = (
            Artifact(files=(model_file,), facts=facts),
            Artifact(files=(report_file,), facts=_report_facts(report)),
        )
        return StageResult(outputs=outputs, metrics=metrics)

    def ensures(self, context: StageContext[PruneConfig], result: StageResult) -> None:
        """The proof itself is part of `run`, before anything is written: here its number must be there and hold."""
        from stages.prune.equivalence import TOLERANCE

        pruned, report = (output.facts for output in result.outputs)
        source = context.inputs["model"].facts
        if not (isinstance(report, PruneFacts) and isinstance(pruned, KerasFacts) and isinstance(source, KerasFacts)):
            raise PostconditionError("the outputs are not a Keras model and a prune report", where="prune")
        if not report.equivalence_error <= TOLERANCE:
            raise PostconditionError(
                f"the pruned model differs from the masked original by {report.equivalence_error:.1e}", where="prune"
            )
        if context.config.ratio > 0 and not pruned.params < source.params:
            raise PostconditionError("the pruned model has as many parameters as the original", where="prune")


def _report_facts(report: PruneReport) -> PruneFacts:
    return PruneFacts(
        groups=len(report.groups),
        frozen_groups=sum(bool(group.frozen) for group in report.groups),
        channels_before=report.channels_before,
        channels_after=report.channels_after,
        equivalence_error=report.equivalence_error,
    )
