"""Keep results of long programs in a file as they come, so that a killed one resumes where it stopped.

A result counts only for the code it came from: the digest of all of `stages/` and of the program is kept with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import platformdirs
from fresh import ROOT, PartFailed, in_fresh_process

DEFAULT_WORK = platformdirs.user_cache_path("secateur") / "benchmarks"


class Results:
    """Hold the results for each case (plain data), in `work/<program's name>.jsonl`; `parts` are files of the
    program.
    """

    def __init__(self, work: Path, program: Path, *parts: Path) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self._file = work / f"{program.stem}.jsonl"
        self._code = code_digest(program, *parts)
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        entries = [json.loads(line) for line in lines]
        self._found = {_key(entry["case"]): entry["result"] for entry in entries if entry["code"] == self._code}

    def get(self, case: Mapping[str, Any]) -> Any:
        """Return the result for a case; None if there is none yet."""
        return self._found.get(_key(case))

    def add(self, case: Mapping[str, Any], result: Any) -> None:
        self._found[_key(case)] = result
        with self._file.open("a") as file:
            file.write(json.dumps({"code": self._code, "case": dict(case), "result": result}) + "\n")

    def each_apart(self, program: str, parts: Iterable[tuple[Mapping[str, Any], Sequence[str]]]) -> Iterator[Any]:
        """Yield the result of each part in turn, a part being its case and the arguments of `--one`: kept, or made now.

        `program` makes it, in a separate process. If that fails, its last words replace the result, and nothing is
        kept.
        """
        for case, arguments in parts:
            found = self.get(case)
            if found is None:
                try:
                    found = in_fresh_process(program, "--one", *arguments)
                    self.add(case, found)
                except PartFailed as error:
                    found = str(error)
            yield found


def code_digest(*programs: Path) -> str:
    """Digest everything that the figures depend on."""
    files = sorted([*(ROOT / "stages").rglob("*.py"), *(program.resolve() for program in programs)])
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _key(case: Mapping[str, Any]) -> str:
    return json.dumps(case, sort_keys=True)
