"""Tell what an entry of a run manifest is about, by the facts of what it made or, if it made nothing, could have made.

So that tables and deliveries know no stage by its name: a third-party stage that makes, checks or measures files is
shown like one of ours.
"""

from __future__ import annotations

from pipeline.records.artifacts import Facts, PlainFacts
from pipeline.records.declared import STAGES_GROUP
from pipeline.records.facts import CountFacts, EvaluationFacts, ExportFacts, KerasFacts, LatencyFacts, ParityFacts
from pipeline.records.kinds import facts_class
from pipeline.records.manifest import BASELINE, CONTROL, NARROW, Output, StageEntry
from pipeline.system.plugins import instances_of


def files_of(entry: StageEntry) -> list[Output]:
    """Return the model files that an entry made in some format.

    What nothing installed can read counts if it has files and belongs to a pair of format and scheme.
    """
    return [
        output for output in entry.outputs if isinstance(output.facts, ExportFacts) or _is_plain_export(entry, output)
    ]


def makes_files(entry: StageEntry) -> bool:
    """Return whether an entry is about making a model file in some format."""
    return bool(files_of(entry)) or _could_make(entry, ExportFacts)


def proves(entry: StageEntry) -> bool:
    """Return whether an entry is about comparing a file with its reference."""
    return on_exports(entry) and _makes(entry, ParityFacts, EvaluationFacts)


def measures(entry: StageEntry) -> bool:
    """Return whether an entry is about what a file costs on a target."""
    return _makes(entry, LatencyFacts, CountFacts)


def makes_model(entry: StageEntry) -> bool:
    """Return whether an entry is about making a Keras model."""
    return _makes(entry, KerasFacts)


def evaluates(entry: StageEntry) -> bool:
    """Return whether an entry is about evaluating a Keras model."""
    return entry.axis is None and _makes(entry, EvaluationFacts)


def on_exports(entry: StageEntry) -> bool:
    """Return whether an entry belongs to a pair of format and scheme."""
    return entry.axis is not None and "/" in entry.axis


def is_baseline(entry: StageEntry) -> bool:
    """Return whether an entry is on the way to a baseline, or makes it."""
    return entry.id.partition(":")[0] == BASELINE


def is_yardstick(entry: StageEntry) -> bool:
    """Return whether an entry makes the control or the narrower network, or a step towards one of them."""
    return entry.id.partition("[")[0] in (CONTROL, NARROW)


def _makes(entry: StageEntry, *classes: type[Facts]) -> bool:
    return any(isinstance(output.facts, classes) for output in entry.outputs) or _could_make(entry, *classes)


def _could_make(entry: StageEntry, *classes: type[Facts]) -> bool:
    """Return whether an entry that made nothing is of a stage that makes such facts."""
    stage = None if entry.outputs else instances_of(STAGES_GROUP, "stage").get(entry.stage)
    kinds = (facts_class(kind) for kind in stage.outputs) if stage is not None else ()
    return any(kind is not None and issubclass(kind, classes) for kind in kinds)


def _is_plain_export(entry: StageEntry, output: Output) -> bool:
    return isinstance(output.facts, PlainFacts) and bool(output.files) and on_exports(entry)
