"""Say which measured int8 files are slower than float32: int8 is chosen to be faster.

A file is compared with the same model in float32, in its format and on its target. Where the run has no such file,
nothing is said: the source that `ratio` compares with is another model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.records.facts import CountFacts, ExportFacts, LatencyFacts
from pipeline.records.manifest import RunManifest
from pipeline.records.roles import is_baseline, measures, on_exports
from pipeline.reports.command_lines import secateur

CHOSEN_FOR_SPEED, REFERENCE = "int8", "float32"


def slower_than_float(manifest: RunManifest, store: Path | None = None) -> list[str]:
    """Return a note for each file and target, each with the command that names the operators, slowest first.

    `store` is where the command looks for the run. Empty where intervals of latencies allow that the file is as fast.
    """
    schemes = _schemes(manifest)
    measured = {
        entry.axis: output.facts
        for entry in manifest.stages
        if measures(entry)
        for output in entry.outputs
        if entry.axis
    }
    found = []
    for axis, facts in measured.items():
        pair, _, target = axis.partition("@")
        if schemes.get(pair) != CHOSEN_FOR_SPEED:
            continue
        other = _float_of(pair, schemes)
        ratio = _ratio(facts, measured.get(f"{other}@{target}"))
        if ratio is not None:
            command = secateur("profile", f"{manifest.run_id}:{pair}", "--target", target, "--advise", store=store)
            found.append(
                (ratio, f"slower than float32: {pair} on {target}, ×{ratio:.2f} of {other}; why:\n  {command}")
            )
    return [note for _, note in sorted(found, reverse=True)]


def _schemes(manifest: RunManifest) -> dict[str, str]:
    """Return the scheme of each export, by `format/name`."""
    return {
        str(entry.axis): output.facts.scheme
        for entry in manifest.stages
        if on_exports(entry) and not is_baseline(entry)
        for output in entry.outputs
        if isinstance(output.facts, ExportFacts)
    }


def _float_of(pair: str, schemes: Mapping[str, str]) -> str | None:
    """Return the first float32 export of the same format; None if there is none."""
    file_format = pair.partition("/")[0]
    alike = (name for name, scheme in schemes.items() if scheme == REFERENCE and name.partition("/")[0] == file_format)
    return next(alike, None)


def _ratio(integer: object, real: object) -> float | None:
    """Return how much more a file costs than another; None if that is not known, or within what both vary by."""
    if isinstance(integer, LatencyFacts) and isinstance(real, LatencyFacts):
        # Both were measured beside the source, in their own rounds.
        return integer.ratio / real.ratio if integer.ratio_low > real.ratio_high else None
    if not isinstance(integer, CountFacts) or not isinstance(real, CountFacts) or integer.main != real.main:
        return None
    main = integer.main
    if main is None or main not in integer.candidate or not real.candidate.get(main):
        return None
    ratio = integer.candidate[main] / real.candidate[main]
    return ratio if ratio > 1 + integer.spread + real.spread else None
