import pytest

from stages.commands.comparing.result import worst


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ((), "ok"),
        (("ok", None), "ok"),
        (("ok", "inconclusive", None), "inconclusive"),
        (("inconclusive", "regression", "ok"), "regression"),
    ],
)
def test_the_worst_verdict_is_that_of_all(verdicts, expected):
    assert worst(verdicts) == expected


def test_findings_are_results_with_that_verdict_and_what_is_only_shown_has_none(make_report):
    report = make_report("regression", "ok")
    (pair,) = report.pairs
    assert [found.name for found in pair.held()] == ["latency@cpu", "latency@cpu", "accuracy"]
    assert report.findings("regression") == [(pair, pair.metrics[0])]
    assert len(report.findings("ok")) == 2
