from __future__ import annotations

import pytest

from pipeline.records.manifest import RunManifest
from pipeline.store import Store
from stages.prune.weighing.report import ForeseenTarget, WeighingReport
from stages.search.foreseen import Foresight, foresight_of
from stages.search.levels import levels_of


def report(*agreements):
    lefts, errors = (0.1, 0.4), (2.0, 1.0)
    targets = tuple(
        ForeseenTarget(left=left, reached=left, output_error=error, agreement=alike)
        for left, error, alike in zip(lefts, errors, agreements, strict=True)
    )
    return WeighingReport(measure="macs", whole=1000.0, search=None, targets=targets)


def test_known_targets_are_told_as_they_are_and_others_lie_between():
    foresight = Foresight(report(0.2, 0.6))
    known = foresight.at(0.4)
    assert (known.level, known.share, known.accuracy, known.error, known.drop) == ("allocated", 0.4, 0.6, 1.0, None)
    between = foresight.at(0.2)  # halfway, in factors
    assert (between.accuracy, between.error) == (pytest.approx(0.4), pytest.approx(1.5))
    assert foresight.at(200.0) == between  # of the 1,000 MACs
    assert foresight.at(1.0).error == 0.0
    assert foresight.at(0.05).error == 2.0


def test_without_classes_there_is_no_agreement():
    assert Foresight(report(None, None)).at(0.2).accuracy is None


def test_a_run_without_such_a_search_foresees_nothing(searched, tmp_path):
    run = RunManifest(run_id="r", name="n", recipe_digest="sha256:" + "0" * 64, stages=(), verdict="pass")
    assert foresight_of(run, Store(tmp_path), levels_of(searched())) is None
