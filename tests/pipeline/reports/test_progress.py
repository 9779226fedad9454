import io

from pipeline.contracts.events import INTERRUPTED, Advanced, Failed, Finished, Skipped, Started, Waiting, Warned
from pipeline.reports.progress import Progress

EVENTS = [
    Finished("load", "hit", "unchanged", 0.0),
    Finished("evaluate:source", "hit", "unchanged", 0.0),
    Started("prune", "prune.ratio 0.5 → 0.3"),
    Advanced("prune", 1, 4, "groups [1/4]", "detail"),
    Warned("prune", "took 0.29"),
    Finished("prune", "ran", "prune.ratio 0.5 → 0.3", 1.25, {"params": 31194.0, "equivalence_error": 3e-7}),
    Waiting("finetune"),
    Started("finetune", "follows prune"),
    Failed("finetune", 2.0, "no memory"),
]


def test_without_a_terminal_each_step_is_a_plain_line():
    stream = io.StringIO()
    with Progress(stream, ["load", "evaluate:source", "prune", "finetune"]) as progress:
        for event in EVENTS:
            progress(event)
    assert stream.getvalue().splitlines() == [
        "✔ 2 cached: load · evaluate",
        "● prune: groups [1/4] detail",
        "! prune: took 0.29",
        "✔ prune                        ran       1.2 s  prune.ratio 0.5 → 0.3   31.2 k params   exact to 3e-07",
        "… finetune: another run is doing this; waiting for it",
        "✘ finetune                     failed    2.0 s  no memory",
    ]


def test_what_was_skipped_is_one_line_a_reason_and_waits_no_more():
    stream = io.StringIO()
    pending = ["prune", "finetune", "evaluate:finetune", "export:a", "export:b"]
    with Progress(stream, pending) as progress:
        progress(Failed("prune", 1.0, "far too long to be told in a line " * 9))
        progress(Skipped("finetune", "prune failed"))
        progress(Skipped("evaluate:finetune", "prune failed"))
        progress(Started("export:a", "first run"))
        progress(Failed("export:a", 1.0, INTERRUPTED))
        progress(Skipped("export:b", "export:a was interrupted"))
    failed, skipped, stopped, last = stream.getvalue().splitlines()
    assert (len(failed), failed[-1]) == (100, "…")
    assert skipped == "- 2 skipped: finetune · evaluate (prune failed)"
    assert stopped == "✘ export:a                     stopped   1.0 s"
    assert last == "- 1 skipped: export (export:a was interrupted)"
    assert pending == []


def test_macs_that_are_a_lower_bound_say_so():
    stream = io.StringIO()
    with Progress(stream, ["prune"]) as progress:
        progress(Finished("prune", "ran", "first run", 1.0, {"params": 31194.0, "macs": 2e6, "macs_unknown": 1.0}))
    assert stream.getvalue().rstrip().endswith("31.2 k params   at least 2.0 M MACs")


def test_many_steps_in_a_moment_are_one_line():
    stream = io.StringIO()
    progress = Progress(stream, ["a"])
    for step in range(1000):
        progress(Advanced("a", step, 1000, f"step {step}"))
    assert len(stream.getvalue().splitlines()) == 1
