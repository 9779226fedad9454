"""Find which layers of an int8 file to keep in float32 or 16×8 bits within a budget, by measured gain and cost.

1. Candidates are the layers to which int8 adds most noise, with those that share their operators. Each is measured in a
   file in which all others are in float32: what the outputs lose by it alone in int8 is what it gains. In a file of
   int8 the others' noise hides that: in a chain of layers nothing is gained until the last of them is kept.
2. In the order of gain per cost they are kept, one more at a time, as far as the limits allow. Of the layers that were
   not measured 1, 2, 4, … follow, by their noise, with their readers, which would quantize their outputs again.
3. Where a loss is allowed, those kept that the bound does not need are taken out again.

Each step is a whole file that was exported and measured, and the best of all files is taken: gains and costs do not add
up. All files are chains of cached actions, and what they lose is measured on the validation split.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from pipeline.contracts.stage import StageContext
from pipeline.errors import NativeEndError, PostconditionError, PreconditionError, UnsupportedError
from pipeline.records.artifacts import Artifact
from pipeline.records.schemes import Budget, Precision, Quantization
from stages.quantize.budget_facts import BudgetFacts, BudgetTry
from stages.quantize.config import QuantizeConfig
from stages.quantize.layer_errors import LayerError
from stages.quantize.tries import Judged, Made, Tries

WHERE = "quantize.schemes.budget"
ROUNDS = 5  # of each try, where times are measured: which of two files is faster, not by how much
FAR = 1.1  # of the allowed size: what is kept makes a small file smaller by its scales, and none by so much
LEAST = 0.01
Kept = Mapping[str, Precision]  # layers that are not in int8


@dataclass(frozen=True)
class Tried:
    """Hold a file, its cost on the target relative to float32's, and what it loses."""

    made: Made
    kept: Kept
    cost: float | None
    judged: Judged

    @property
    def size_bytes(self) -> int:
        return self.made.export.size_bytes


class Search:
    """Search once. `known` are the model's layers, in order; those that `how` keeps stay as they are."""

    def __init__(self, tries: Tries, how: Quantization, budget: Budget, known: Sequence[str]) -> None:
        self._tries, self._how, self._budget, self._known = tries, how, budget, known
        self._found: dict[tuple[tuple[str, Precision], ...], Tried | None] = {}
        self.errors: list[LayerError] = []
        self.cost_name: str | None = None

    @property
    def tried(self) -> tuple[Tried, ...]:
        """Return all files, in the order in which they were made."""
        return tuple(tried for tried in self._found.values() if tried is not None)

    def run(self) -> Tried:
        """Return the best file; PostconditionError if none is within the budget, with the nearest."""
        start = self._measured({})
        self._found[()] = start
        if self._budget.size_bytes is not None and start.size_bytes > FAR * self._budget.size_bytes:
            self._refuse()
        if self._done(start) and self._budget.target is None:
            return start  # whatever is kept makes the file larger
        self.errors = self._tries.layer_errors(start.made)
        options, measured = self._measured_options(start) if self._budget.candidates else ([], set())
        now, steps = start, list[Kept]()
        for option in options:
            if self._done(now):
                break
            attempt = self._try(_merged(now.kept, option))
            if attempt is not None and self._excess(attempt) <= self._excess(now):
                now, steps = attempt, [*steps, option]
        now = self._with_more(now, [self._group(error) for error in self.errors if error.layer not in measured])
        self._take_out(now, steps)
        best = self._best
        if self._excess(best) or self._exceeds_loss(best):
            self._refuse()
        return best

    @property
    def _best(self) -> Tried:
        return min(self.tried, key=self._key)

    def _group(self, error: LayerError) -> tuple[str, ...]:
        names = {error.layer, *error.readers}
        return tuple(name for name in self._known if name in names)

    def _measured_options(self, start: Tried) -> tuple[list[Kept], set[str]]:
        """Return what to keep, that first which gains most for its cost, and all layers that were measured.

        A cost is the share that it takes of what the budget leaves, and at least a hundredth of what all layers cost:
        what small layers cost, or save, is that of conversions, which others share.
        """
        units = self._units(start)
        floats: Kept = {name: "float32" for unit in units for name in unit}
        whole = self._try(floats)
        if whole is None:
            return [], set()
        by_noise = dict.fromkeys(unit for error in self.errors for unit in units if error.layer in unit)
        least = LEAST * abs(self._added_cost(start, start, whole)) or LEAST
        rated, measured = list[tuple[float, Kept]](), list(by_noise)[: self._budget.candidates]
        for done, unit in enumerate(measured):
            self._tries.context.events.advanced(done, len(measured), "layers alone", ", ".join(unit))
            narrow = self._try({name: precision for name, precision in floats.items() if name not in unit})
            for precision in self._budget.precisions if narrow is not None else ():
                option = dict.fromkeys(unit, precision)
                wide = self._try({**floats, **option})
                if narrow is None or wide is None:
                    continue
                gain, cost = narrow.judged.noise - wide.judged.noise, self._added_cost(start, narrow, wide)
                if gain > 0 or cost < 0:
                    rated.append((gain / max(cost, least), option))
        ordered = sorted(rated, key=lambda one: one[0], reverse=True)
        return [option for _, option in ordered], {name for unit in measured for name in unit}

    def _units(self, start: Tried) -> list[tuple[str, ...]]:
        """Return the layers that the file computes, those together that share an operator."""
        units = list[set[str]]()
        for layers in self._tries.layers_together(start.made):
            names = set(layers) & set(self._known)
            names.update(*(unit for unit in units if unit & names))
            units = [unit for unit in units if not unit & names] + ([names] if names else [])
        return [tuple(name for name in self._known if name in unit) for unit in units]

    def _added_cost(self, start: Tried, before: Tried, after: Tried) -> float:
        budget, shares = self._budget, list[float]()
        size, cost = after.size_bytes - before.size_bytes, (after.cost or 0.0) - (before.cost or 0.0)
        if budget.size_bytes is not None:
            shares.append(size / max(budget.size_bytes - start.size_bytes, 1))
        if budget.ratio is not None:
            assert start.cost is not None
            shares.append(cost / max(budget.ratio - start.cost, 1e-6))
        return max(shares) if shares else cost if budget.target else float(size)

    def _with_more(self, now: Tried, groups: Sequence[tuple[str, ...]]) -> Tried:
        """Return the first file that needs no more, of those that keep layers that were not measured; else `now`."""
        precision = self._budget.precisions[0]
        for count in doubling(len(groups) if not self._done(now) else 0):
            self._tries.context.events.advanced(count, len(groups), "layers kept", f"{count} more")
            attempt = self._try(_merged(now.kept, {name: precision for group in groups[:count] for name in group}))
            if attempt is not None and self._done(attempt):
                return attempt
        return now

    def _take_out(self, now: Tried, steps: Sequence[Kept]) -> None:
        """Try files that keep less and may still hold the bound that `now` holds, the last step taken out first."""
        for step in reversed(steps if self._done(now) else ()):
            others = {name for other in steps if other is not step for name in other}
            less = {name: precision for name, precision in now.kept.items() if name in others or name not in step}
            attempt = self._try(less)
            if attempt is not None and self._key(attempt) < self._key(now):
                now, steps = attempt, [other for other in steps if other is not step]

    def _done(self, tried: Tried) -> bool:
        """Return whether more layers can only cost: what may be lost holds, and so does all else."""
        return self._budget.bounds_loss and not self._excess(tried) and not self._exceeds_loss(tried)

    def _key(self, tried: Tried) -> tuple[float, bool, float, float]:
        """Return how good a file is, smallest is best: within the limits, then by what the budget is for."""
        exceeds, noise = self._exceeds_loss(tried), tried.judged.noise
        by_noise = exceeds or not self._budget.bounds_loss
        cost = tried.cost if tried.cost is not None else float(tried.size_bytes)
        return self._excess(tried), exceeds, *((noise, cost) if by_noise else (cost, noise))

    def _excess(self, tried: Tried) -> float:
        """Return the largest share by which a file exceeds a limit of its cost; 0 if it exceeds none."""
        budget, excess = self._budget, 0.0
        if budget.size_bytes is not None:
            excess = max(excess, tried.size_bytes / budget.size_bytes - 1)
        if budget.ratio is not None:
            assert tried.cost is not None
            excess = max(excess, tried.cost / budget.ratio - 1)
        return excess

    def _exceeds_loss(self, tried: Tried) -> bool:
        budget, drop = self._budget, tried.judged.accuracy_drop
        too_noisy = budget.max_noise is not None and tried.judged.noise > budget.max_noise
        return too_noisy or (
            budget.max_accuracy_drop is not None and drop is not None and drop > budget.max_accuracy_drop
        )

    def _place(self, kept: Kept) -> tuple[tuple[str, Precision], ...]:
        return tuple((name, kept[name]) for name in self._known if name in kept)

    def _try(self, kept: Kept) -> Tried | None:
        """Return the file that keeps these layers; None, with a warning, if it can't be made."""
        key = self._place(kept)
        if key not in self._found:
            try:
                self._found[key] = self._measured(dict(key))
            except (UnsupportedError, NativeEndError) as error:
                self._tries.context.events.warned(f"budget: not with {', '.join(kept)}: {error}")
                self._found[key] = None
        return self._found[key]

    def _measured(self, kept: Kept) -> Tried:
        how, budget, cost = kept_in(self._how, kept, self._known), self._budget, None
        made = self._tries.make(how.scheme, how)
        if budget.target is not None:
            self.cost_name, cost = self._tries.cost(made, budget.target, ROUNDS)
        judged = self._tries.judge(made)
        if budget.max_accuracy_drop is not None and judged.accuracy_drop is None:
            what = "max_accuracy_drop is for outputs of classes, and there are none here"
            raise PreconditionError(what, where=WHERE, hint="limit max_noise, which is for all outputs")
        return Tried(made, kept, cost, judged)

    def _refuse(self) -> NoReturn:
        nearest = min(self.tried, key=self._key)
        raise PostconditionError(
            f"no file that was tried ({len(self.tried)}) is within the budget: the nearest {self.in_words(nearest)}",
            where=WHERE,
            hint="allow that much, prune first, or see what helps int8: rounding, calibration, faster_on",
        )

    def in_words(self, tried: Tried) -> str:
        """Return what is kept in a file, what it costs and what it loses."""
        return _as_try(tried).words(self.cost_name)

    def report(self, best: Tried) -> BudgetFacts:
        """Return what was tried, as facts."""
        tries = tuple(_as_try(tried) for tried in self.tried)
        return BudgetFacts(
            budget=self._budget,
            cost=self.cost_name,
            tries=tries,
            chosen=self.tried.index(best),
        )


def within_budget(
    context: StageContext[QuantizeConfig], how: Quantization, budget: Budget, known: Sequence[str]
) -> tuple[Quantization, Artifact]:
    """Return `how` with the layers kept that make its file the best within the budget, and the report of the search.

    `known` are the model's layers, in order.
    """
    search = Search(Tries(context, budget.format, WHERE), how, budget, known)
    best = search.run()
    facts = search.report(best)
    context.events.warned(*facts.notes)
    return best.made.how, Artifact(files=(), facts=facts)


def _as_try(tried: Tried) -> BudgetTry:
    return BudgetTry(
        kept_float=tried.made.how.keep_float,
        kept_int16=tried.made.how.keep_int16,
        size_bytes=tried.size_bytes,
        cost=tried.cost,
        accuracy_drop=tried.judged.accuracy_drop,
        noise=tried.judged.noise,
    )


def kept_in(how: Quantization, kept: Kept, known: Sequence[str]) -> Quantization:
    """Return `how` with more layers kept, all in the order of `known`."""
    floats = {*how.keep_float, *(name for name, precision in kept.items() if precision == "float32")}
    wide = {*how.keep_int16, *(name for name, precision in kept.items() if precision == "int16x8")} - floats
    return how.model_copy(
        update={
            "keep_float": tuple(name for name in known if name in floats),
            "keep_int16": tuple(name for name in known if name in wide),
        }
    )


def doubling(most: int) -> Iterator[int]:
    """Yield 1, 2, 4, … and `most` itself; nothing if that is 0."""
    count = 1
    while count < most:
        yield count
        count *= 2
    if most:
        yield most


def _merged(kept: Kept, more: Kept) -> Kept:
    """Return the layers of both; what one of them has in float32 is in float32."""
    return {**kept, **{name: kept.get(name, p) if p == "int16x8" else p for name, p in more.items()}}
