"""Keep what benchmarks print, and write `benchmarks/README.md` from it, so that no figure is typed by hand.

A record is the last lines of one benchmark's output with its command, bound, date, commit and machine, in
`benchmarks/printed/NAME.json`; NAME is a module, or MODULE-VARIANT. Absolute paths are cut to their last part.

    python benchmarks/warm_run.py | python benchmarks/figures.py record warm_run
    python benchmarks/figures.py record NAME [--command "…"] [--commit C] [--wanted "…"] < output.txt
    python benchmarks/figures.py write
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
PRINTED, README = BENCHMARKS / "printed", BENCHMARKS / "README.md"
PARTS = {"plain_demo", "train_demo_model", "figures"}  # programs with a command line that measure nothing themselves
MOST_LINES = 18
COMMIT = ("git", "rev-parse", "--short", "HEAD")
UNMEASURED, NO_BOUND = "not measured on the current code", "its docstring names none"
PATH_HERE = re.compile(r"(?<![\w.:/…-])(?:/[\w.+@-]+)+/([\w.+@-]+)")
NAME = re.compile(r"[a-z0-9_]+(-[a-z0-9_-]+)?")

INTRODUCTION = """\
# Benchmarks

This page lists the benchmarks and the last lines that each one printed. `benchmarks/figures.py` writes it from
`benchmarks/printed/`; do not edit it by hand. To measure, record and write, in an environment that `make test` set up:

```
.venv/bin/python benchmarks/warm_run.py > output.txt
.venv/bin/python benchmarks/figures.py record warm_run < output.txt
.venv/bin/python benchmarks/figures.py write
```

A record holds for its commit: `git log COMMIT.. -- pipeline stages benchmarks/NAME.py` lists what changed since.
`DIR` after `--data` is the folder of public models and data that `benchmarks/public_models.py` describes.
"""
TABLE = ("| benchmark | question | command | measured |", "|---|---|---|---|")


@dataclass(frozen=True)
class Benchmark:
    """Hold what a benchmark's docstring says: the question it answers, its command and its bound."""

    module: str
    question: str
    command: str
    wanted: str


@dataclass(frozen=True)
class Record:
    """Record what one run of a benchmark printed, and where."""

    name: str
    command: str
    wanted: str
    date: str
    commit: str
    machine: str
    lines: tuple[str, ...]

    @property
    def module(self) -> str:
        return self.name.partition("-")[0]


def benchmarks(folder: Path = BENCHMARKS) -> dict[str, Benchmark]:
    """Return all benchmarks by module: programs whose docstring shows their command."""
    found = {}
    for file in sorted(folder.glob("*.py")):
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        usage = re.search(rf"^    (python benchmarks/{file.stem}\.py.*)$", text, re.MULTILINE)
        if usage and file.stem not in PARTS:
            found[file.stem] = Benchmark(file.stem, text.splitlines()[0], _required(usage[1]), _bound(text))
    return found


def _required(usage: str) -> str:
    """Return a usage line without its comment and (nested) optional parts."""
    text, found = re.split(r" {3,}| +# ", usage)[0], 1
    while found:
        text, found = re.subn(r" ?\[[^][]*\]…?", "", text)
    return text


def _bound(docstring: str) -> str:
    """Return the sentences that say when the program ends with exit status 1."""
    sentences = [
        " ".join(s.split()) for part in docstring.split("\n\n") for s in re.split(r"(?<=\.)\s+(?=[A-Z])", part)
    ]
    return " ".join(sentence for sentence in sentences if sentence.startswith("Exit status 1")) or NO_BOUND


def machine() -> str:
    """Return the processor's name and the number of processors; no host name."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return f"{named[1] if named else platform.machine()}, {os.cpu_count()} cores"


def last_lines(output: str) -> tuple[str, ...]:
    """Return the last nonempty lines, at most MOST_LINES."""
    return tuple(without_paths(line.rstrip()) for line in output.splitlines() if line.strip())[-MOST_LINES:]


def without_paths(text: str) -> str:
    return PATH_HERE.sub(r"…/\1", text.replace(str(ROOT) + "/", ""))


def keep(record: Record, folder: Path = PRINTED) -> Path:
    """Write a record, replacing an earlier one of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{record.name}.json"
    file.write_text(json.dumps(asdict(record), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return file


def kept(folder: Path = PRINTED) -> list[Record]:
    """Return all records by name."""
    found = (json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json")))
    return [Record(**(fields | {"lines": tuple(fields["lines"])})) for fields in found]


def rendered(known: Mapping[str, Benchmark], records: Sequence[Record]) -> str:
    """Return the text of `benchmarks/README.md`; ValueError if a record's benchmark no longer exists."""
    if orphans := [record.name for record in records if record.module not in known]:
        raise ValueError(f"no benchmark has these records, delete them: {', '.join(orphans)}")
    rows = [_row(one, [record for record in records if record.module == one.module]) for one in known.values()]
    sections = [_section(known[record.module], record) for record in records]
    return "\n".join([INTRODUCTION, *TABLE, *rows, "", *sections]).rstrip() + "\n"


def _row(one: Benchmark, records: Iterable[Record]) -> str:
    found = ", ".join(f"[{record.date[:10]}](#{record.name}) at {record.commit}" for record in records)
    return f"| [{one.module}]({one.module}.py) | {one.question} | `{one.command}` | {found or UNMEASURED} |"


def _section(one: Benchmark, record: Record) -> str:
    measured = f"- measured: {record.date}, commit {record.commit}, {record.machine}"
    facts = [f"- command: `{record.command}`", f"- bound: {record.wanted}", measured]
    printed = [f"    {line}" for line in record.lines]  # indented, so that no line can end the block
    return "\n".join([f"## {record.name}", "", one.question, "", *facts, "", *printed, ""])


def record_of(options: argparse.Namespace, output: str) -> Record:
    """Build the record from the command line; ValueError if there is nothing to keep or no such benchmark."""
    known, module = benchmarks(), options.name.partition("-")[0]
    if module not in known or not NAME.fullmatch(options.name):
        raise ValueError(f"no benchmark is named {options.name!r}; there are {', '.join(known)}")
    if not output.strip():
        raise ValueError("the output is empty: pipe in what the benchmark printed")
    return Record(
        name=options.name,
        command=without_paths(options.command or known[module].command),
        wanted=options.wanted or known[module].wanted,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=options.commit or subprocess.check_output(COMMIT, cwd=ROOT, text=True).strip(),
        machine=machine(),
        lines=last_lines(output),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="action", required=True)
    recording = commands.add_parser("record", help="keep what a benchmark printed, read from stdin")
    recording.add_argument("name", help="the benchmark's module, or MODULE-VARIANT")
    recording.add_argument("--command", help="what was run; default: the command in the benchmark's docstring")
    recording.add_argument("--commit", help="of the checkout it ran in; default: this one's")
    recording.add_argument("--wanted", help="the bound; default: when its docstring says that it exits with 1")
    commands.add_parser("write", help="write benchmarks/README.md")
    options = parser.parse_args()
    try:
        if options.action == "record":
            print(keep(record_of(options, sys.stdin.read())).relative_to(ROOT))
        else:
            README.write_text(rendered(benchmarks(), kept()), encoding="utf-8")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
