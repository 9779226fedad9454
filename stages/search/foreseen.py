"""Foresee candidates that differ only in how much is left: the search of one candidate's pruning tells it for all."""

from __future__ import annotations

from pipeline.records.manifest import ActionRecord, RunManifest
from pipeline.records.values import Json, Value
from pipeline.store import Store
from stages.prune.weighing.report import WeighingReport
from stages.prune.weighing.stage import REPORT_FILE, WeighingStage
from stages.search.space import Space


class Foreseen(Value):
    """Hold a candidate of the usual settings that leaves `budget`, such as `macs 0.4`, and what is foreseen of it.

    `share` is what its channels cost of the source's cost, `error` that of its outputs relative to their variance,
    `agreement` the share of held-out samples that get the source's class, None where outputs are no classes.
    """

    name: str
    settings: dict[str, Json]
    budget: float
    share: float
    error: float
    agreement: float | None


def foreseen_by(run: RunManifest, store: Store, prune: str, space: Space) -> tuple[Foreseen, ...]:
    """Return what the step `prune` of a candidate's run foresees of others; nothing if it has searched for itself."""
    report = _report(run, store, prune)
    return tuple(
        Foreseen(
            name=f"{space.budget.rpartition('.')[2]} {target.left}",
            settings={**space.fixed, **space.usual, space.budget: target.left},
            budget=target.left,
            share=target.reached,
            error=target.output_error,
            agreement=target.agreement,
        )
        for target in (report.targets if report is not None else ())
    )


def _report(run: RunManifest, store: Store, prune: str) -> WeighingReport | None:
    keys = (key for entry in run.stages if entry.id == prune for key in entry.children)
    for record in map(store.records.get, keys):
        if isinstance(record, ActionRecord) and record.action.stage == WeighingStage.name:
            digest = record.output("weighing-report").file(REPORT_FILE).digest
            if store.blobs.problem(digest) is None:
                return WeighingReport.model_validate_json(store.blobs.path(digest).read_bytes())
    return None
