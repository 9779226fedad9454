from __future__ import annotations

from io import StringIO

from stages.search.progress import StudyProgress, line_of
from stages.search.study import Status


def test_a_line_says_how_far_it_is_and_what_is_best(trial):
    trained = trial(0, 0.48, fitted=0.8, trained=0.894)
    trials = (trained, trial(1, 0.3, "pruned", fitted=0.5), trial(2, 0.2, "failed"))
    status = Status("explored", trials, 40, 2, trained, 661.0)
    assert line_of(status) == (
        "● exploring: 3 of 40 trials · 2 running · 1 trained · 1 given up · 1 failed"
        " · best 0.48 of the source's cost at -0.6 points · 11:01 left"
    )


def test_without_a_terminal_there_is_a_line_a_phase():
    stream = StringIO()
    with StudyProgress(stream) as progress:
        progress.say("goal")
        for phase in ("fitted", "fitted", "border"):
            progress(Status(phase, (), 5, 0, None, 60.0))
    assert stream.getvalue().splitlines() == [
        "goal",
        "● pruned and re-fitted: 0 of 5 trials · 1:00 left",
        "● bisecting: 0 of 5 trials · 1:00 left",
    ]


def test_a_terminal_gets_one_line_that_is_replaced():
    class Terminal(StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with StudyProgress(stream) as progress:
        progress(Status("fitted", (), 5, 0, None, 60.0))
        progress(Status("border", (), 5, 0, None, 50.0))
        progress.say("done")
    assert stream.getvalue().count("\n") == 2
    assert stream.getvalue().endswith("\ndone\n")
