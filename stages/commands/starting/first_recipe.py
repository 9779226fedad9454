"""Write a recipe for a model of which only `first_guess` is known; comments say what was guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING

from pipeline.data.samples import Preprocess
from pipeline.data.spec import HeldOutPart
from pipeline.records.metrics import of_output
from pipeline.reports.table import count, macs_notes
from stages.commands.starting.first_changes import IMAGE_RANK
from stages.commands.starting.first_data import DRAWN_TEST, SEED, DataGuess
from stages.commands.starting.first_guess import ModelGuess, OutputGuess, Preprocessing
from stages.commands.starting.first_preprocessing import SourceReport, table_of
from stages.commands.starting.first_pruning import FirstPruning
from stages.samples.preprocess_trial import setting_of

if TYPE_CHECKING:
    from stages.commands.starting.first_look import Found

PLAIN = re.compile(r"(\.\./)*[A-Za-z_][A-Za-z0-9_./-]*")
NOT_PLAIN = frozenset({"true", "false", "null"})
RANGES = {"tf": "0…255 to -1…1", "caffe": "BGR, less ImageNet's means", "torch": "ImageNet's means and deviations"}
LARGE_INPUT = 128 * 128  # pixels
CALIBRATION, MORE_CALIBRATION = 256, 1024  # samples; ResNet-8 loses 0.9 points in mixed precision with 256, else 0.04
BEST_INT8 = "calibration: auto, bias_correction: true"
COMMENT_COLUMN = 52
WIDTH = 100
RATIO = 0.3
EPOCHS, MOST_EPOCHS, STEPS = 5, 40, 2_000  # steps of a training in a search
OBS = "criterion: obs, scope: loss"  # channels go where their loss costs least
BLENDING = 0.4  # alpha of mixup
TEACHER = 0.8  # of the loss: after re-fitting, labels alone gain nothing in a short training
ACCURACY_DROP = 0.02
MSE_RATIO = 1.5  # errors 22 % larger: of pruning and int8 together, as the drop; verify bounds the export alone


def recipe_name(stem: str) -> str:
    """Derive a recipe's name from a file's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:80] or "model"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Say what the recipe is to end in: files for a target, with training or without, and a goal to search for.

    `mixed` is whether the target can tell which layers are faster in float32.
    """

    target: str = "cpu"
    formats: tuple[str, ...] = ("tflite", "onnx")
    training: bool = True
    mixed: bool = False
    search: str | None = None


def recipe_text(
    found: Found,
    model_path: str,
    name: str,
    wanted: Wanted = Wanted(),
) -> str:
    """Return the YAML of a recipe that runs as it is with the data that was found, else once the file exists."""
    guess = found.guess
    least = "at least " if guess.macs_unknown else ""
    lines = [
        f"# {_comment(guess.name)}: {count(guess.params)} params, {least}{count(guess.macs)} MACs",
        *(f"# {_comment(note)}" for note in macs_notes(guess.macs_unknown, guess.macs_size)),
        "# Written by `secateur init`: what it guessed says so, and CHECK stands where it may be wrong.",
        "# `secateur schema` lists all settings, `secateur plan` says what would run.",
        *(f"# note: {_comment(note)}" for note in guess.notes),
        f"name: {_scalar(name)}",
        f"seed: {SEED}",
        f"model: {_scalar(model_path)}",
        *(_without_data(guess) if guess.unsuited and found.data is None else _with_data(found, wanted)),
    ]
    return "\n".join(lines) + "\n"


def _with_data(found: Found, wanted: Wanted) -> Iterator[str]:
    guess, data = found.guess, found.data
    unlabelled = data is not None and (guess.unsuited is not None or not data.labelled)
    judged = {} if unlabelled else _judged(guess, data)
    classifier = any(
        output.task in ("classes", "binary") and judged.get(output.name) in ("classes", "binary")
        for output in guess.outputs
    )
    for output in guess.outputs:
        of = "" if len(guess.outputs) == 1 else f" of {_comment(output.name)}"
        yield f"# task{of}: {_task_words(output)} ({_comment(output.reason)})"
    yield "data:"
    if data is None:
        yield _line("  source: npz", "or image_folder, csv, tfrecord, python")
        yield from _fill_in(guess)
        yield "  path: data.npz"
    else:
        yield f"  source: {data.source}"
        yield _line(f"  path: {_scalar(data.path)}", f"holds {', '.join(map(_comment, data.splits))}")
        for own in data.settings:
            yield from _setting(f"  {own.key}: {_flow(own.value)}", own.comment)
    if unlabelled:
        why = "its labels are not looked at" if data and data.labelled else "there are none in it"
        yield _line("  task: unlabelled", f"{why}: outputs are compared, accuracies not measured")
    yield from _preprocess(guess.preprocessing, found.source)
    yield from _splits(data, CALIBRATION if wanted.search is None or _is_large(guess) else MORE_CALIBRATION)
    if not unlabelled and wanted.training:
        yield _line("control: true", "fine-tunes the unpruned model as well")
    yield "stages:"
    yield "  - load"
    by_loss = guess.pruning is not None and guess.pruning.by_loss
    yield from _prune(guess, OBS if by_loss else "criterion: taylor" if classifier else "criterion: l2")
    if guess.prunable_groups and not guess.keeps_zeros:
        yield _line("  - reconstruct: {data_split: train}", "fits what is left to the unpruned model")
    if wanted.training:
        yield from _training(found, wanted, unlabelled=unlabelled)
    yield _line("  - strip", "takes out what only training needs")
    if guess.trained_for_int8:
        yield _line("  - quantize: {schemes: [int8]}", "what it was trained for")
        yield _line("  - export: {formats: [tflite]}", "which keeps its ranges")
    else:
        yield from _schemes(wanted)
        yield _line(f"  - export: {{formats: [{', '.join(wanted.formats)}]}}")
    judges = classifier and wanted.search is None  # a search judges files by its own goal
    drop = f"  - verify: {{max_accuracy_drop: {ACCURACY_DROP}}}" if judges else "  - verify"
    yield _line(drop, "in each file's own runtime")
    yield _line(f"  - benchmark: {{targets: [{wanted.target}], rounds: 10}}")
    if wanted.search is None:
        yield from _gates(guess, judged)
    else:
        yield _line(f"search: {wanted.search}", "what `secateur search` looks for")


def _schemes(wanted: Wanted) -> Iterator[str]:
    if wanted.search is None:
        yield _line("  - quantize: {schemes: [float32, int8]}", "or float16, dynamic")
        return
    schemes = ["float32", f"{{int8: {{{BEST_INT8}}}}}"]
    if wanted.mixed:
        yield "  # mixed: int8 with those layers in float32 that are faster so"
        schemes.append(f"{{mixed: {{scheme: int8, faster_on: {wanted.target}, {BEST_INT8}}}}}")
    yield f"  - quantize: {{schemes: [{', '.join(schemes)}]}}"


def _epochs(guess: ModelGuess, data: DataGuess | None, wanted: Wanted) -> int:
    """Return how long to train. A search trains to find out what can go, which too few steps would hide."""
    if wanted.search is None or data is None or not data.counts:
        return EPOCHS
    steps = -(-data.counts["train"] // _batch(guess))
    return min(max(EPOCHS, -(-STEPS // steps)), MOST_EPOCHS)


def _training(found: Found, wanted: Wanted, *, unlabelled: bool) -> Iterator[str]:
    guess, kept = found.guess, found.kept
    length = f"epochs: {_epochs(guess, found.data, wanted)}, batch: {_batch(guess)}"
    if wanted.search is not None and all(len(spec.shape) == IMAGE_RANK for spec in guess.inputs):
        # A teacher that is patient and consistent: Beyer et al., 2022, arXiv:2106.05237. Stopping early would leave out
        # the small steps at the end, which gain most.
        if kept is None:
            yield "  # learns the unpruned model's outputs, for blends of two images as well"
            rate, images = 0.003, f"mixup: {BLENDING}"
        else:
            right = f"{kept.accuracy:.1%} right of {kept.samples:,}, {kept.plain:.1%} as they are"
            yield f"  # learns the unpruned model's outputs, for changed images as well ({right})"
            rate, images = 0.001, f"augment: {_flow(kept.augment.model_dump(exclude_defaults=True))}"
        tuning = f"{length}, learning_rate: {rate}, schedule: cosine, early_stopping: null"
        yield f"  - finetune: {{{tuning}, {images}, distill: {{weight: 1.0}}}}"
        return
    lesson = "distill: {}" if unlabelled else f"distill: {{weight: {TEACHER}}}"
    taught = "without labels" if unlabelled else "as well as from labels"
    yield f"  # learns from the unpruned model's outputs, {taught}"
    yield f"  - finetune: {{{length}, learning_rate: 0.001, schedule: cosine, {lesson}}}"


def _splits(data: DataGuess | None, samples: int) -> Iterator[str]:
    """Yield the splits of the recipe, stored ones and others drawn from train; `samples` calibrate."""
    if data is not None and data.validation is not None:
        yield f"  validation: {_scalar(data.validation)}"
    else:
        part = HeldOutPart() if data is None else data.held_out
        told = "or a split: val" if part.from_ == "train" else "which the model has not learned"
        yield _line(
            f"  validation: {{from: {part.from_}, fraction: {part.fraction}}}", f"held out of {part.from_}, {told}"
        )
    yield _line(f"  calibration: {{from: train, take: {samples}}}", "samples that show int8 its ranges")
    if data is None or data.tested:
        yield "  test: test"
    else:
        yield _line(f"  test: {{fraction: {DRAWN_TEST}}}", "drawn from train: no test split fits it")


def _without_data(guess: ModelGuess) -> Iterator[str]:
    """Yield the stages for a model that can't be trained or evaluated here: those that need no data."""
    yield f"# {_comment(str(guess.unsuited))}: fine-tuning, int8, verify and accuracies are left out"
    yield "stages:"
    yield "  - load"
    yield from _prune(guess, "criterion: l2")
    yield "  - strip"
    yield "  - quantize: {schemes: [float32, float16]}"
    yield "  - export: {formats: [tflite, onnx]}"
    yield "  - benchmark: {targets: [cpu], rounds: 10}"
    yield from _gates(guess, {})


def _prune(guess: ModelGuess, ranking: str) -> Iterator[str]:
    if guess.keeps_zeros:
        yield "  # no pruning of channels: the zeros that the model came with would not be kept"
        return
    if not guess.prunable_groups:
        yield "  # nothing can be pruned: `secateur inspect` says why, group by group"
        return
    goal = guess.pruning
    if goal is None:
        yield f"  # hardly any work can go ({guess.prunable_share:.0%} of the MACs): this takes channels all the same"
        yield _line(f"  - prune: {{{ranking}, ratio: {RATIO}}}", "a share of the channels; outputs stay")
        return
    settings = f"{{{ranking}, {goal.measure}: {goal.left:g}, round_to: {goal.round_to}}}"
    yield f"  # leaves {pruning_words(goal)}"
    yield _line(f"  - prune: {settings}", "outputs stay as they are")


def pruning_words(goal: FirstPruning) -> str:
    """Describe a goal: `60 % of the MACs: 9.1 M → about 5.5 M`."""
    unit = "MACs" if goal.measure == "macs" else "parameters"
    return f"{goal.left:.0%} of the {unit}: {count(goal.before)} → about {count(goal.after)}"


def _judged(guess: ModelGuess, data: DataGuess | None) -> dict[str, str]:
    """Return what each output that has labels is judged as, by name: what its labels are, else what was guessed."""
    guessed = {output.name: output.task for output in guess.labelled}
    if data is None:
        return dict(guessed)
    if len(guess.outputs) == 1:
        return {name: next(iter(data.tasks.values()), None) or task for name, task in guessed.items()}
    return {name: data.tasks[name] or task for name, task in guessed.items() if name in data.tasks}


def _gates(guess: ModelGuess, judged: dict[str, str]) -> Iterator[str]:
    several = len(guess.outputs) > 1
    gates = []
    for output, task in judged.items():
        measure, most = ("mse_ratio", MSE_RATIO) if task == "regression" else ("accuracy_drop", ACCURACY_DROP)
        metric = of_output(f"tflite/int8.{measure}", output if several else None)
        gates.append(f"{{metric: {_quoted(metric)}, max: {most}}}")
    if guess.prunable_groups and not guess.keeps_zeros:
        gates.append('{metric: "tflite/float32@cpu.latency_ratio", max: 1.0}')
    if gates:
        yield _line("gates:", "against the model as it came")
        yield from (f"  - {gate}" for gate in gates)


def _preprocess(preprocessing: Preprocessing, source: SourceReport | None) -> Iterator[str]:
    check = "" if preprocessing.certain else "CHECK: "
    reason = _comment(preprocessing.reason)
    if source is not None and source.unmeasured is not None:
        yield f"  # the source's accuracy is not measured: {_comment(source.unmeasured)}"
    if source is not None and source.tried:
        yield from wrap(check + reason, WIDTH, initial_indent="  # ", subsequent_indent="  #   ")
        yield from (f"  #   {line}" for line in table_of(source))
    elif preprocessing.way == Preprocess():
        yield f"  # {check}no preprocess, {reason}"
    elif preprocessing.mode:
        yield f"  # {check}{reason}; {preprocessing.mode} is {RANGES[preprocessing.mode]}"
    else:
        yield f"  # {check}{reason}; `mode: tf` gives -1…1"
    if preprocessing.way != Preprocess() or (source is not None and source.tried):
        yield f"  {setting_of(preprocessing.way)}"


def _task_words(output: OutputGuess) -> str:
    return {
        "classes": f"{output.size} classes",
        "binary": "two classes",
        "multilabel": f"{output.size} labels that are true or not",
        "regression": "a number to predict",
        "other": "unknown",
    }[output.task]


def _fill_in(guess: ModelGuess) -> Iterator[str]:
    """Say what the file must contain: on one line for one input and one output, else a line each."""
    members = []
    for spec in guess.inputs:
        shape = ", ".join("any" if size is None else str(size) for size in spec.shape[1:])
        members.append(f"{_both('x', spec.name if len(guess.inputs) > 1 else None)} (N, {shape})")
    for output in guess.labelled:
        targets = {
            "classes": f"(N,) from 0 to {(output.size or 1) - 1}",
            "binary": "(N,) of 0 and 1",
            "multilabel": f"(N, {output.size}) of 0 and 1",
        }.get(output.task, "(N,)")
        members.append(f"{_both('y', output.name if len(guess.outputs) > 1 else None)} {targets}")
    if len(members) == 2:
        yield f"  # FILL IN: a file with {' and '.join(members)}"
        return
    yield "  # FILL IN: a file with"
    yield from (f"  #   {_comment(member)}" for member in members)
    if len(guess.outputs) > 1:
        yield "  # (labels for one output are enough: the others are then trained without a loss, and not measured)"


def _both(letter: str, name: str | None) -> str:
    end = "" if name is None else f"__{name}"
    return f"{letter}_train{end}, {letter}_test{end}"


def _batch(guess: ModelGuess) -> int:
    return 16 if _is_large(guess) else 64


def _is_large(guess: ModelGuess) -> bool:
    """Return whether the input is so large that many samples take much memory and time."""
    sizes = [size or 1 for size in guess.inputs[0].shape[1:-1]]
    return len(sizes) == 2 and sizes[0] * sizes[1] >= LARGE_INPUT


def _setting(text: str, comment: str) -> Iterator[str]:
    """Yield a line with its comment beside it; above it if the line is long."""
    above = bool(comment) and len(text) > COMMENT_COLUMN
    if above:
        yield f"  # {comment}"
    yield _line(text, "" if above else comment)


def _line(text: str, comment: str = "") -> str:
    return f"{text.ljust(COMMENT_COLUMN)} # {comment}" if comment else text


def _flow(value: object) -> str:
    """Return a value in YAML's flow style, on one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_scalar(str(key))}: {_flow(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_flow, value))}]"
    return _scalar(value) if isinstance(value, str) else str(value)


def _scalar(text: str) -> str:
    """Quote a string for YAML if needed."""
    plain = PLAIN.fullmatch(text) and text.lower() not in NOT_PLAIN
    return text if plain else _quoted(text)


def _quoted(text: str) -> str:
    # JSON's own escapes of characters beyond 16 bits are surrogates, which YAML does not put together again.
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(character if character.isprintable() else f"\\U{ord(character):08x}" for character in quoted)


def _comment(text: str) -> str:
    """Escape text so that it can't leave its comment, whatever a model's layers are called."""
    return "".join(character if character.isprintable() else " " for character in text)
