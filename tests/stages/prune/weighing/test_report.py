from __future__ import annotations

from stages.prune.report import SearchReport
from stages.prune.weighing.report import ForeseenTarget, WeighingReport


def test_what_is_read_back_is_what_was_written():
    search = SearchReport(tried=3, output_error=1 / 3, output_error_of_equal=0.5, factors={"a": 0.1 + 0.2})
    target = ForeseenTarget(left=0.1, reached=0.09, output_error=2.0, agreement=None)
    report = WeighingReport(measure="macs", search=search, targets=(target,))
    assert WeighingReport.model_validate_json(report.to_json()) == report
