"""Compare the exported model with the source's float32 export, on one target, timed or counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.contracts.stage import Axis, Input, StageConfig, StageContext, StageResult, Upstream
from pipeline.errors import DeviceError, ModelError, PostconditionError, PreconditionError, listed, numbered
from pipeline.records.artifacts import Artifact, Kind
from pipeline.records.facts import CountFacts, OperatorLoss
from pipeline.records.metrics import Metric
from stages.benchmark.config import ENOUGH_ROUNDS, BenchmarkConfig
from stages.formats.format import HasTwins, Runs
from stages.formats.registry import (
    format_of,
    format_of_kind,
    kinds_that,
    packages_that_run,
    pinned_by_format,
    whole_model,
)

if TYPE_CHECKING:  # import measuring code where it is used: cached runs load this module at every start
    from stages.devices.rounds import Round, Side, Subject
    from stages.devices.target import Target

SAMPLES_FILE, COUNTS_FILE = "latency-samples.json", "device-counts.json"
INPUT_OF: Mapping[Side, str] = {"baseline": "baseline", "candidate": "export"}


class BenchmarkStage:
    """Measure without changing anything. Equal models are measured too: an A/A shows the machine's noise."""

    name: ClassVar[str] = "benchmark"
    version: ClassVar[int] = 5
    config: ClassVar[type[StageConfig]] = BenchmarkConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "export": Input(kinds_that(Runs)),
        "baseline": Input(kinds_that(Runs), of="baseline"),
    }
    outputs: ClassVar[tuple[Kind, ...]] = ("latency-samples", "device-counts")
    axis: ClassVar[Axis | None] = Axis("targets", "{branch}@{element}")
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = ()  # they depend on the target: see metrics_on
    packages: ClassVar[tuple[str, ...]] = packages_that_run(None)

    def packages_for(self, axis: str | None) -> tuple[str, ...]:
        return packages_that_run(axis)

    def splits(self, config: BenchmarkConfig) -> tuple[str, ...]:
        return ()

    def refuses(self, config: BenchmarkConfig, axis: str, upstream: Upstream, folder: Path) -> str | None:
        """Return why the target can't take an artifact of its kind, quantized as it is, or None.

        RecipeError where there is no such target.
        """
        target = _target(config, folder)
        if upstream.kind not in target.formats:
            return f"{target.name} takes {listed(target.formats, 'and')} only"
        quantized_by: Any = upstream.settings["quantized-model"]
        return next(
            (reason for quantization in quantized_by.possible if (reason := target.refuses(quantization))), None
        )

    def metrics_on(self, config: BenchmarkConfig, folder: Path) -> tuple[Metric, ...]:
        """Return the metrics that a result on this configuration's target can have."""
        return _target(config, folder).metrics

    def extended(self, config: BenchmarkConfig, folder: Path) -> BenchmarkConfig | None:
        """Double the rounds once if a gate is undecided. Repeating counts adds no certainty."""
        return None if _target(config, folder).counts else config.model_copy(update={"rounds": 2 * config.rounds})

    def device(self, config: BenchmarkConfig, folder: Path, axis: str | None) -> Mapping[str, str]:
        """Return the fingerprint of the target, with what the format pins there; DeviceError if it is not set up."""
        from stages.devices.target import device_fingerprint

        target = _target(config, folder)
        fingerprint = {**device_fingerprint(target), **pinned_by_format(axis)}
        return {f"{target.name}.{name}": value for name, value in fingerprint.items()}

    def targets_of(self, config: BenchmarkConfig) -> tuple[str, ...]:
        """Return the targets that these settings name."""
        return config.targets

    def remark(self, target: str, folder: Path) -> str | None:
        """Return what the user should know about the target that a name resolves to, if anything."""
        from stages.devices.target import find_target

        return find_target(target, folder).shadow

    def requires(self, config: BenchmarkConfig, inputs: Mapping[str, Artifact]) -> None:
        if len(config.targets) != 1:
            raise PreconditionError(f"one action measures on one target, not on {len(config.targets)}")
        candidate, baseline = inputs["export"], inputs["baseline"]
        if candidate.kind != baseline.kind:
            raise PreconditionError(
                f"a {candidate.kind} can't be compared with a {baseline.kind}: that would compare runtimes, not models",
                hint="the baseline must be the source exported in the candidate's format",
            )
        for name, artifact in (("export", candidate), ("baseline", baseline)):
            if len(artifact.files) not in format_of_kind(artifact.kind).file_counts:
                raise PreconditionError(f"a model of {len(artifact.files)} files can't be measured", where=name)

    def explaining(self, config: BenchmarkConfig, axis: str, folder: Path) -> BenchmarkConfig | None:
        """Return settings with `advise` where operators can be measured alone."""
        from stages.devices.target import ProbingDriver

        able = isinstance(format_of(axis), HasTwins) and isinstance(_target(config, folder).driver, ProbingDriver)
        return config.model_copy(update={"advise": True}) if able else None

    def run(self, context: StageContext[BenchmarkConfig]) -> StageResult:
        if context.config.advise:
            return _advised(self, context)
        target = _target(context.config, context.folder)
        return _counted(self, context, target) if target.counts else _measured(self, context, target)

    def ensures(self, context: StageContext[BenchmarkConfig], result: StageResult) -> None:
        from stages.devices.rounds import forget_rounds, load_round

        if context.config.advise:
            return  # the measurement is an action of its own
        if _target(context.config, context.folder).counts:
            _check_counts(context, result)
            return
        rounds = [load_round(context.work_dir, index) for index in range(context.config.rounds)]
        try:
            _check_rounds(context, [done for done in rounds if done is not None])
        except PostconditionError:
            forget_rounds(context.work_dir)  # or the next run would resume from the rounds just refused
            raise


def _target(config: BenchmarkConfig, folder: Path) -> Target:
    from stages.devices.target import find_target

    return find_target(config.targets[0], folder)


def _advised(stage: BenchmarkStage, context: StageContext[BenchmarkConfig]) -> StageResult:
    """Return what is measured without `advise`, with the int8 operators that cost more than in float32 in the facts."""
    plain = context.config.model_copy(update={"advise": False})
    record = context.call(stage.name, plain.model_dump(), context.inputs)
    (measured,) = record.outputs
    facts = measured.facts.model_copy(update={"losses": _losses(context, _target(plain, context.folder))})
    outputs = (measured.model_copy(update={"facts": facts}),)
    return StageResult(outputs=outputs, metrics=record.metrics, intervals=record.intervals)


def _losses(context: StageContext[BenchmarkConfig], target: Target) -> tuple[OperatorLoss, ...] | None:
    """Return the operators that lose; None, with a warning, if they can't be measured: the file itself was."""
    from stages.devices.advice import advise

    subject = _subject(context, "candidate")
    try:
        advised = advise(target, subject.path, subject.name)
    except (DeviceError, ModelError) as error:
        context.events.warned(f"its operators could not be measured alone: {error}")
        return None
    return tuple(
        OperatorLoss(
            kind=one.kind, layers=one.layers, cost=one.cost, float_cost=max(1.0, one.float_cost), helps=one.helps
        )
        for one in advised.advice
    )


def _measured(stage: BenchmarkStage, context: StageContext[BenchmarkConfig], target: Target) -> StageResult:
    """Measure times, in rounds."""
    from stages.benchmark.summary import facts_of, metrics_of, ratio_of, samples_document
    from stages.devices.measurement import doubts
    from stages.devices.rounds import load_round, measure_rounds, processes_of
    from stages.devices.target import Sampling

    config = context.config
    if config.rounds < ENOUGH_ROUNDS:
        context.events.warned(
            f"{numbered(config.rounds, 'round')}: an interval to rely on needs {ENOUGH_ROUNDS} or more"
        )
    resumed = load_round(context.work_dir, 0) is not None
    subjects = {side: _subject(context, side) for side in INPUT_OF}
    sampling = Sampling(seconds=config.seconds, threads=config.threads)
    rounds = measure_rounds(subjects, target, config.rounds, sampling, context.work_dir, context.events)
    for doubt in doubts(processes_of(rounds)):
        context.events.warned(doubt)
    ratio = ratio_of(rounds)
    device = stage.device(config, context.folder, context.axis)
    document = samples_document(rounds, ratio, target.name, device, context.inputs)
    file = context.write(SAMPLES_FILE, document, "application/json")
    return StageResult(
        outputs=(Artifact(files=(file,), facts=facts_of(rounds, ratio, target.name)),),
        metrics=metrics_of(rounds, ratio, context.inputs["export"].size_bytes),
        intervals={"latency_ratio": (ratio.low, ratio.high)},
        resumed=resumed,
    )


def _counted(stage: BenchmarkStage, context: StageContext[BenchmarkConfig], target: Target) -> StageResult:
    """Count once for each side."""
    from stages.benchmark.counted import counts_document, facts_of, intervals_of, metrics_of
    from stages.devices.target import count

    if context.config.threads != 1:
        context.events.warned(f"{target.name} counts one thread; {context.config.threads} were asked for")
    counts = {}
    for done, side in enumerate(INPUT_OF, start=1):
        subject = _subject(context, side)
        counts[side] = count(target, subject.path, subject.name)
        context.events.advanced(done, len(INPUT_OF), f"{side} counted")
    candidate, baseline = counts["candidate"], counts["baseline"]
    for note in candidate.notes:
        context.events.warned(note)
    if candidate.main and baseline.main and candidate.left_out != baseline.left_out:
        context.events.warned(f"{candidate.main} of the source leave out other operators: there is no ratio")
    device = stage.device(context.config, context.folder, context.axis)
    document = counts_document(candidate, baseline, device, context.inputs)
    file = context.write(COUNTS_FILE, document, "application/json")
    metrics = metrics_of(candidate, baseline, context.inputs["export"].size_bytes, target.metrics)
    return StageResult(
        outputs=(Artifact(files=(file,), facts=facts_of(candidate, baseline)),),
        metrics=metrics,
        intervals=intervals_of(candidate, baseline, metrics, target.metrics),
    )


def _check_counts(context: StageContext[BenchmarkConfig], result: StageResult) -> None:
    """Check that one model gives one number: if both sides are the same file, their counts must be equal."""
    facts = result.outputs[0].facts
    if not isinstance(facts, CountFacts) or context.inputs["export"].digest != context.inputs["baseline"].digest:
        return
    for name, value in facts.candidate.items():
        if name == facts.main and abs(value - facts.baseline[name]) > facts.spread * value:
            what = f"one model has {value:.0f} {name} as candidate and {facts.baseline[name]:.0f} as baseline"
            target = _target(context.config, context.folder)
            hint = f"set the target up again: {target.set_up_command}"
            raise PostconditionError(what, where=context.axis, hint=hint)


def _check_rounds(context: StageContext[BenchmarkConfig], rounds: Sequence[Round]) -> None:
    """Check that every round is there, and that each model computed the same in all of its processes."""
    from stages.devices.rounds import results_of

    if len(rounds) != context.config.rounds:
        raise PostconditionError(f"{len(rounds)} of {context.config.rounds} rounds were recorded", where=context.axis)
    results = results_of(rounds)
    for side, digests in results.items():
        if len(digests) != 1:
            raise PostconditionError(
                f"the {side} gave {len(digests)} different results for one input in {len(rounds)} processes",
                where=context.axis,
                hint="the runtime is not deterministic, or damaged: its times can't be trusted either",
            )
    same_model = context.inputs["export"].digest == context.inputs["baseline"].digest
    if same_model and results["candidate"] != results["baseline"]:
        raise PostconditionError("one model gave two results, as candidate and as baseline", where=context.axis)


def _subject(context: StageContext[BenchmarkConfig], side: Side) -> Subject:
    from stages.devices.rounds import Subject

    name = INPUT_OF[side]
    artifact, file = context.inputs[name], context.inputs[name].files[0]
    # `tmp` in front: a folder of links is no progress that a killed run could resume from.
    path = whole_model(artifact.kind, artifact.names, partial(context.read, name), context.work_dir / f"tmp-{side}")
    return Subject(path, f"{side} {file.name} {file.digest[:19]}")
