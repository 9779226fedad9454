"""Implement the prune stage: a Keras model in, a smaller one and a report out."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pipeline.contracts.stage import Axis, Input, StageConfig, StageContext, StageResult
from pipeline.errors import PostconditionError, PreconditionError
from pipeline.records.artifacts import Artifact, Kind
from pipeline.records.facts import KerasFacts
from pipeline.records.metrics import COUNTED, SPARSITY, Metric, counted
from pipeline.reports.command_lines import SURGEON, install
from stages.devices.metrics import INSTRUCTION_RATIO, LATENCY_RATIO
from stages.keras.sparsity import PLAN_FILE
from stages.keras.sparsity_facts import SparsityFacts
from stages.prune.config import RATIO_OF, PruneConfig
from stages.prune.facts import PruneFacts
from stages.prune.measured.fingerprint import fingerprint_of
from stages.prune.ranking.criterion import package_of
from stages.prune.ranking.stage import score_of
from stages.prune.sensitivity.stage import REPORT_FILE as SCAN_FILE
from stages.prune.sensitivity.stage import SensitivityStage
from stages.prune.weighing.stage import weighing_of

if TYPE_CHECKING:
    from stages.prune.choosing.choice import Drops
    from stages.prune.report import PruneReport

REPORT_FILE = "prune-report.json"
MISS_WORTH_A_WARNING = 0.01  # between the requested and the reached share


class PruneStage:
    """Remove whole channels and prove that nothing else changed."""

    name: ClassVar[str] = "prune"
    version: ClassVar[int] = 6
    config: ClassVar[type[StageConfig]] = PruneConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "model": Input(("keras-model",)),
        "source": Input(("keras-model",), of="first", required=False),  # shares of repeated pruning are relative to it
    }
    outputs: ClassVar[tuple[Kind, ...]] = ("keras-model", "prune-report", "sparsity-report")
    axis: ClassVar[Axis | None] = None
    seeded: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        *COUNTED,
        Metric("channels_removed", "share", lower_is_better=None),
        Metric("equivalence_error", "share", lower_is_better=True, told="exact to {:.0e}"),
        SPARSITY,
        LATENCY_RATIO,
        INSTRUCTION_RATIO,
    )
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "h5py", "kerassurgeon", "numpy")

    def splits(self, config: PruneConfig) -> tuple[str, ...]:
        scanned = SensitivityStage().splits(config.scan_or_default) if config.scope == "sensitivity" else ()
        ranked_by = config.split_of_criterion
        return tuple(dict.fromkeys((*scanned, *((ranked_by,) if ranked_by else ()))))

    def packages_of(self, config: PruneConfig) -> tuple[str, ...]:
        """Return the distributions of criteria that are not ours."""
        scanned = SensitivityStage().packages_of(config.scan_or_default) if config.scope == "sensitivity" else ()
        return tuple(dict.fromkeys((*package_of(config.criterion), *scanned)))

    def device(self, config: PruneConfig, folder: Path, axis: str | None) -> Mapping[str, str] | None:
        """Return the fingerprint of `measure_on`'s device, for the key; DeviceError if it is not suitable."""
        return fingerprint_of(config, folder)

    def targets_of(self, config: PruneConfig) -> tuple[str, ...]:
        """Return the target that is measured on, if any."""
        return (config.measure_on.target,) if config.measure_on else ()

    def labels_for(self, config: PruneConfig) -> tuple[str, str] | None:
        """Return what needs labels, and what to do without, if anything."""
        if config.scope == "sensitivity":
            return "prune.scope sensitivity", "rank without labels: scope loss, criterion obs"
        if config.method == "structured" and config.declared.needs == "labels":
            return f"criterion {config.criterion}", "rank without labels: criterion l2, hessian or obs"
        return None

    def kinds_for(self, config: PruneConfig) -> tuple[Kind, ...]:
        """Return what is made: channels that go are in a prune report, weights that are zero in a sparsity report."""
        return ("keras-model", "prune-report" if config.method == "structured" else "sparsity-report")

    def requires(self, config: PruneConfig, inputs: Mapping[str, Artifact]) -> None:
        if find_spec("kerassurgeon") is None:
            raise PreconditionError("pruning needs kerassurgeon, which is not installed", hint=install(*SURGEON))

    def run(self, context: StageContext[PruneConfig]) -> StageResult:
        return _structured(context) if context.config.method == "structured" else _unstructured(context)

    def ensures(self, context: StageContext[PruneConfig], result: StageResult) -> None:
        """Check that the proof of surgery, made in `run` before anything is written, is there and holds."""
        if context.config.method == "structured":
            _ensure_exact(context, result)
        elif context.config.sparsity.schedule == "constant" and not context.config.nothing_goes:
            sparsity = next(output.facts for output in result.outputs if isinstance(output.facts, SparsityFacts))
            if not sparsity.zeros:
                raise PostconditionError(
                    "no weight became zero", where="prune", hint="ask for more: the layers are small"
                )


def _structured(context: StageContext[PruneConfig]) -> StageResult:
    from stages.keras.normal_form import keras_facts
    from stages.keras.stored import shared_model, write_model
    from stages.keras.tensorflow import tensorflow_action
    from stages.prune.choosing.choice import ChoiceBasis
    from stages.prune.measured.device import device_of
    from stages.prune.pruning import prune_model

    if any(file.name == PLAN_FILE for file in context.inputs["model"].files):
        context.events.warned("single weights that are zero will not be kept so: prune channels first, then weights")
    drops, ranked_by = _drops(context), context.config.split_of_criterion
    score, weighing = score_of(context), weighing_of(context) if context.config.weighs_once else None
    data = None if ranked_by is None else context.data(ranked_by)  # which the ranking has checked

    def heard(done: int, total: int) -> None:
        context.events.advanced(done, total, "networks", f"tried {done}/{total}")

    with tensorflow_action(context.seed, context.threads):
        model = shared_model(context, "model")
        source = shared_model(context, "source") if "source" in context.inputs else None
        device = device_of(context, model if source is None else source)
        basis = ChoiceBasis(
            source=source,
            drops=drops,
            device=device,
            folder=context.work_dir,
            heard=heard,
            score=score,
            weighing=weighing,
        )
        result = prune_model(model, context.config, data, context.seed, basis=basis)
        facts = keras_facts(result.model)
        model_file = write_model(context, result.model)
    report, config = result.report, context.config
    if report.wanted is not None and abs(report.reached - report.wanted) > MISS_WORTH_A_WARNING:
        context.events.warned(
            f"{report.reached:.3f} of the {report.measure} are left, not {report.wanted:.3f}: "
            f"{_no_nearer(config, report.measure)} (round_to {config.round_to}, min_channels {config.min_channels})"
        )
    for note in report.notes:
        context.events.warned(note)
    report_file = context.write(REPORT_FILE, report.to_json(), "application/json")
    metrics = {
        **counted(facts),
        "channels_removed": report.removed_share,
        "equivalence_error": report.equivalence_error,
    }
    if report.measure in RATIO_OF:
        metrics[RATIO_OF[report.measure]] = report.reached
    outputs = (
        Artifact(files=(model_file,), facts=facts),
        Artifact(files=(report_file,), facts=_report_facts(report)),
    )
    return StageResult(outputs=outputs, metrics=metrics)


def _unstructured(context: StageContext[PruneConfig]) -> StageResult:
    from stages.keras.flatten import flattened
    from stages.keras.normal_form import keras_facts
    from stages.keras.sparsity import apply_masks, plan_files, sparsity_report
    from stages.keras.stored import own_model, write_model
    from stages.keras.tensorflow import tensorflow_action
    from stages.prune.unstructured import plan_for

    with tensorflow_action(context.seed, context.threads):
        model = flattened(own_model(context, "model"))  # a separate copy: weights are changed in place
        plan = plan_for(model, context.config, context.seed)
        if plan.reached_at == 0:
            apply_masks(model, plan)
        facts = keras_facts(model)
        files = (write_model(context, model), *plan_files(context, plan))
        report = sparsity_report(model, plan)
    metrics = {**counted(facts), "sparsity": facts.sparsity}
    return StageResult((Artifact(files=files, facts=facts), report), metrics)


def _ensure_exact(context: StageContext[PruneConfig], result: StageResult) -> None:
    from stages.prune.surgery.equivalence import TOLERANCE

    pruned, report = (output.facts for output in result.outputs)
    source = context.inputs["model"].facts
    if not (isinstance(report, PruneFacts) and isinstance(pruned, KerasFacts) and isinstance(source, KerasFacts)):
        raise PostconditionError("the outputs are not a Keras model and a prune report", where="prune")
    # Not `>`: NaN has to fail.
    if not report.equivalence_error <= TOLERANCE:
        raise PostconditionError(
            f"the pruned model differs from the masked original by {report.equivalence_error:.1e}", where="prune"
        )
    if not context.config.nothing_goes and not pruned.params < source.params:
        raise PostconditionError("the pruned model has as many parameters as the original", where="prune")


def _drops(context: StageContext[PruneConfig]) -> Drops | None:
    """Return what the scan found, for scope `sensitivity`: a separate sub-step, cached independently."""
    if context.config.scope != "sensitivity":
        return None
    from stages.prune.sensitivity.scan import SensitivityReport

    settings = context.config.scan_or_default.model_dump(exclude_unset=True)
    made = context.call("sensitivity", settings, {"model": context.inputs["model"]}).output("sensitivity-report")
    return SensitivityReport.model_validate_json(context.read_made(made, SCAN_FILE).read_bytes()).drops()


def _no_nearer(config: PruneConfig, measure: str) -> str:
    """Return the words for why the numbers of channels are not nearer to the goal."""
    if config.scope == "loss" and measure != "channels":
        return "scope: loss keeps within a budget, which one more step of any group would exceed"
    return "one more step of any group comes no nearer"


def _report_facts(report: PruneReport) -> PruneFacts:
    return PruneFacts(
        groups=len(report.groups),
        frozen_groups=sum(bool(group.frozen) for group in report.groups),
        channels_before=report.channels_before,
        channels_after=report.channels_after,
        equivalence_error=report.equivalence_error,
        notes=report.notes,
    )
