"""Find which measured int8 files are slower than float32: int8 is chosen to be faster.

A file is compared with the same model in float32, in its format and on its target. Where the run has no such file,
nothing is found: the source that `ratio` compares with is another model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.records.facts import CountFacts, ExportFacts, LatencyFacts, Losses
from pipeline.records.manifest import StageEntry
from pipeline.records.roles import is_baseline, measures, on_exports
from pipeline.records.values import Value

CHOSEN_FOR_SPEED, REFERENCE = "int8", "float32"


class Slower(Value):
    """Name a file and a target by their `axis`, and how much more it costs there than the float32 file `reference`."""

    axis: str
    reference: str
    ratio: float
    losses: Losses = None


def slower_files(entries: Sequence[StageEntry]) -> list[Slower]:
    """Return the int8 files that cost more than float32, slowest first; of repeated measurements the last counts.

    Empty where intervals of latencies allow that the file is as fast.
    """
    schemes = _schemes(entries)
    measured = {
        entry.axis: output.facts for entry in entries if measures(entry) for output in entry.outputs if entry.axis
    }
    found = []
    for axis, facts in measured.items():
        pair, _, target = axis.partition("@")
        if schemes.get(pair) != CHOSEN_FOR_SPEED or not isinstance(facts, LatencyFacts | CountFacts):
            continue
        reference = _float_of(pair, schemes)
        ratio = _ratio(facts, measured.get(f"{reference}@{target}"))
        if reference is not None and ratio is not None:
            found.append(Slower(axis=axis, reference=reference, ratio=ratio, losses=facts.losses))
    return sorted(found, key=lambda one: (-one.ratio, one.axis))


def _schemes(entries: Sequence[StageEntry]) -> dict[str, str]:
    """Return the scheme of each export, by `format/name`."""
    return {
        str(entry.axis): output.facts.scheme
        for entry in entries
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
