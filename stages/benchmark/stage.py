"""The benchmark stage: the exported model against the source's float32 export, in turns, on one target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from pipeline.artifacts import Artifact, Kind
from pipeline.errors import PostconditionError, PreconditionError
from pipeline.stage import Input, StageConfig, StageContext, StageResult
from stages.benchmark.config import ENOUGH_ROUNDS, BenchmarkConfig

if TYPE_CHECKING:  # what measures is imported where it is used: cached runs load this module at every start
    from stages.benchmark.rounds import Round, Side, Subject

MODEL_KINDS: tuple[Kind, ...] = ("tflite-model", "onnx-model")
SAMPLES_FILE = "latency-samples.json"
INPUT_OF: Mapping[Side, str] = {"baseline": "baseline", "candidate": "export"}


class BenchmarkStage:
    """Measures; changes nothing. Equal models are measured all the same: an A/A shows what the machine's noise is."""

    name: ClassVar[str] = "benchmark"
    version: ClassVar[int] = 1
    config: ClassVar[type[StageConfig]] = BenchmarkConfig
    inputs: ClassVar[Mapping[str, Input]] = {"export": Input(MODEL_KINDS), "baseline": Input(MODEL_KINDS)}
    outputs: ClassVar[tuple[Kind, ...]] = ("latency-samples",)
    axis: ClassVar[str | None] = "targets"
    seeded: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]] = (
        "latency_p50_ms",
        "latency_p90_ms",
        "baseline_p50_ms",
        "latency_ratio",
        "load_ms",
        "first_inference_ms",
        "peak_memory_bytes",
        "size_bytes",
        "latency_p99_ms",
    )
    packages: ClassVar[tuple[str, ...]] = ("ai-edge-litert", "onnxruntime", "numpy")

    def splits(self, config: BenchmarkConfig) -> tuple[str, ...]:
        return ()

    def unsupported(self, axis: str) -> str | None:
        return None

    def device(self, config: BenchmarkConfig) -> Mapping[str, str]:
        """The fingerprint of the devices that this configuration measures on; it enters the action's key."""
        from stages.benchmark.target import device_fingerprint

        return {
            f"{target}.{name}": value for target in config.targets for name, value in device_fingerprint(target).items()
        }

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
            if len(artifact.files) != 1:
                raise PreconditionError(f"a model of {len(artifact.files)} files can't be measured", where=name)

    def run(self, context: StageContext[BenchmarkConfig]) -> StageResult:
        from stages.benchmark.rounds import load_round, measure_rounds
        from stages.benchmark.summary import facts_of, metrics_of, ratio_of, samples_document
        from stages.benchmark.target import Sampling

        config, target = context.config, context.config.targets[0]
        if config.rounds < ENOUGH_ROUNDS:
            context.events.warned(f"{config.rounds} rounds: an interval to rely on needs {ENOUGH_ROUNDS} or more")
        resumed = load_round(context.work_dir, 0) is not None
        subjects = {side: _subject(context, side) for side in INPUT_OF}
        sampling = Sampling(seconds=config.seconds, threads=config.threads)
        rounds = measure_rounds(subjects, target, config.rounds, sampling, context.work_dir, context.events)
        _warn_of_unsteady(context, rounds)
        ratio = ratio_of(rounds)
        document = samples_document(rounds, ratio, target, self.device(config), context.inputs)
        file = context.write(SAMPLES_FILE, document, "application/json")
        return StageResult(
            outputs=(Artifact(files=(file,), facts=facts_of(rounds, ratio, target)),),
            metrics=metrics_of(rounds, ratio, context.inputs["export"].files[0].size),
            intervals={"latency_ratio": (ratio.low, ratio.high)},
            resumed=resumed,
        )

    def ensures(self, context: StageContext[BenchmarkConfig], result: StageResult) -> None:
        from stages.benchmark.rounds import forget_rounds, load_round

        found = [load_round(context.work_dir, index) for index in range(context.config.rounds)]
        try:
            _check_rounds(context, [done for done in found if done is not None])
        except PostconditionError:
            forget_rounds(context.work_dir)  # or the next run would resume from what has just been refused
            raise


def _check_rounds(context: StageContext[BenchmarkConfig], rounds: Sequence[Round]) -> None:
    """Every round is there, and each model computed the same in all of its processes."""
    if len(rounds) != context.config.rounds:
        raise PostconditionError(f"{len(rounds)} of {context.config.rounds} rounds were recorded", where=context.axis)
    results = {side: {done.side(side).output_digests() for done in rounds} for side in INPUT_OF}
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


def _warn_of_unsteady(context: StageContext[BenchmarkConfig], rounds: Sequence[Round]) -> None:
    processes = [done.side(side) for done in rounds for side in INPUT_OF]
    unsteady = sum(not process.steady for process in processes)
    if 2 * unsteady > len(processes):
        context.events.warned(
            f"{unsteady} of {len(processes)} processes were not steady after warm-up: the machine is busy or throttled"
        )


def _subject(context: StageContext[BenchmarkConfig], side: Side) -> Subject:
    from stages.benchmark.rounds import Subject

    file = context.inputs[INPUT_OF[side]].files[0]
    return Subject(context.read(INPUT_OF[side], file.name), f"{side} {file.name} {file.digest[:19]}")
