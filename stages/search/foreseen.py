"""Foresee what candidates lose that differ only in how much is left: one action of `prune` tells it for all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.records.manifest import ActionRecord, RunManifest
from pipeline.store import Store
from stages.prune.weighing.report import WeighingReport
from stages.prune.weighing.stage import REPORT_FILE, WeighingStage
from stages.search.levels import Levels
from stages.search.trial import Reached


@dataclass(frozen=True, slots=True)
class Foresight:
    """Hold what is foreseen at some shares of the source's cost."""

    report: WeighingReport

    def at(self, budget: float) -> Reached:
        """Return what a candidate is expected to reach: between the two nearest targets that are known.

        `budget` is a share, or above 1 a number in the unit of the measure. Its accuracy is the agreement with the
        source.
        """
        left = budget if budget <= 1 else budget / self.report.whole
        known = self.report.targets
        shares = np.log([*(target.left for target in known), 1.0])
        error = np.interp(np.log(left), shares, [*(target.output_error for target in known), 0.0])
        agreements = [target.agreement for target in known if target.agreement is not None]
        alike = float(np.interp(np.log(left), shares, [*agreements, 1.0])) if len(agreements) == len(known) else None
        return Reached(level="allocated", accuracy=alike, drop=None, share=left, wall_s=0.0, error=float(error))


def foresight_of(run: RunManifest, store: Store, levels: Levels) -> Foresight | None:
    """Return what the run of a candidate foresees of others; None if its pruning does not search for all targets."""
    keys = (key for entry in run.stages if entry.id == levels.prune for key in entry.children)
    for record in map(store.records.get, keys):
        if isinstance(record, ActionRecord) and record.action.stage == WeighingStage.name:
            digest = record.output("weighing-report").file(REPORT_FILE).digest
            if store.blobs.problem(digest) is None:
                report = WeighingReport.model_validate_json(store.blobs.path(digest).read_bytes())
                return Foresight(report) if report.targets else None
    return None
