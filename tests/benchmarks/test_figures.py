"""Check that figures come from what benchmarks printed: `benchmarks/README.md` is generated from the records."""

import json
import subprocess
import sys

import figures
import pytest

PRINTED = "filling the store\n\nall cached: 0.3 s, bound 0.35 s\nok: every action a hit\n"


@pytest.fixture
def record(tmp_path, monkeypatch, capsys):
    """Run `figures.py record` with these arguments on this output, into a temporary folder; returns its exit status."""
    monkeypatch.setattr(figures, "keep", lambda one: keep_in(tmp_path, one))

    def run(*arguments, output=PRINTED):
        monkeypatch.setattr(sys, "argv", ["figures.py", "record", *arguments])
        monkeypatch.setattr(sys, "stdin", FakeInput(output))
        return figures.main()

    return run


def keep_in(folder, one, keep=figures.keep):
    keep(one, folder)
    return figures.PRINTED / f"{one.name}.json"


class FakeInput:
    def __init__(self, text):
        self.read = lambda: text


def test_the_page_is_what_the_program_writes():
    written = figures.rendered(figures.benchmarks(), figures.kept())
    assert figures.README.read_text(encoding="utf-8") == written, "run: python benchmarks/figures.py write"


def test_benchmarks_are_the_programs_that_measure():
    known = figures.benchmarks()
    assert {"warm_run", "applications", "gate_power", "xception"} <= known.keys()
    assert not {"fresh", "resumable", "plain_demo", "figures", "oracle_plain", "public_models"} & known.keys()
    assert known["gate_power"].command == "python benchmarks/gate_power.py --data DIR"
    assert known["loaders"].command == "python benchmarks/loaders.py"  # options inside options go as well
    assert known["surgery"].wanted == "Exit status 1 where the ratio is above 0.5 or an exponent above 1."
    assert known["footprint"].wanted == figures.NO_BOUND


def test_a_record_holds_what_was_printed_and_where(record, tmp_path):
    assert record("warm_run", "--commit", "abc1234") == 0
    held = json.loads((tmp_path / "warm_run.json").read_text())
    assert held["lines"] == ["filling the store", "all cached: 0.3 s, bound 0.35 s", "ok: every action a hit"]
    assert held["commit"] == "abc1234"
    assert held["command"] == "python benchmarks/warm_run.py"
    assert held["date"].endswith(" UTC")
    assert held["machine"].endswith(" cores")


def test_the_commit_is_the_checkouts(record, tmp_path):
    assert record("warm_run") == 0
    head = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=figures.ROOT, text=True).strip()
    assert json.loads((tmp_path / "warm_run.json").read_text())["commit"] == head


def test_the_last_lines_are_kept(record, tmp_path):
    assert record("steps-demo", "--commit", "c", output="\n".join(f"line {n}" for n in range(40))) == 0
    assert figures.kept(tmp_path)[0].lines == tuple(f"line {n}" for n in range(40 - figures.MOST_LINES, 40))


def test_no_path_of_the_machine_is_kept(record, tmp_path):
    output = f"wrote {figures.ROOT}/out/steps.svg, read /srv/data/x.npz at 12 MB/s and 3/4/5\n"
    assert (
        record("steps", "--commit", "c", "--command", "python benchmarks/steps.py --picture /srv/out", output=output)
        == 0
    )
    (kept,) = figures.kept(tmp_path)
    assert kept.lines == ("wrote out/steps.svg, read …/x.npz at 12 MB/s and 3/4/5",)
    assert kept.command == "python benchmarks/steps.py --picture …/out"


@pytest.mark.parametrize(("name", "output"), [("nonesuch", PRINTED), ("../warm_run", PRINTED), ("warm_run", " \n")])
def test_nothing_is_kept_of_no_benchmark_or_no_output(record, tmp_path, name, output, capsys):
    assert record(name, output=output) == 2
    assert "error: " in capsys.readouterr().err
    assert not list(tmp_path.glob("**/*.json"))


def test_a_page_shows_the_printed_lines_as_they_are(record, tmp_path):
    assert record("warm_run", "--commit", "abc1234", output="```\n| 1 | <b>\n") == 0
    page = figures.rendered(figures.benchmarks(), figures.kept(tmp_path))
    assert "\n    ```\n    | 1 | <b>\n" in page
    (row,) = [line for line in page.splitlines() if line.startswith("| [warm_run]")]
    assert "at abc1234" in row
    (other,) = [line for line in page.splitlines() if line.startswith("| [surgery]")]
    assert figures.UNMEASURED in other


def test_a_record_without_its_benchmark_is_an_error(record, tmp_path):
    assert record("warm_run", "--commit", "c") == 0
    known = {name: one for name, one in figures.benchmarks().items() if name != "warm_run"}
    with pytest.raises(ValueError, match="warm_run"):
        figures.rendered(known, figures.kept(tmp_path))
