"""Climb the ladder: the fastest scheme that is accurate enough, found by making and measuring them.

Every try is a separate chain of actions (quantize, export, benchmark, verify), planned and cached as any other, so a
ladder that was killed or whose bound changed reuses what is measured already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import rfc8785

from pipeline.contracts.stage import StageContext
from pipeline.errors import NativeEndError, PostconditionError, PreconditionError, UnsupportedError
from pipeline.records.artifacts import Artifact
from pipeline.records.schemes import Budget, Quantization
from stages.quantize.budget import Search
from stages.quantize.config import SELECTIVE, QuantizeConfig, Rung
from stages.quantize.ladder_facts import LadderFacts, LadderTry
from stages.quantize.layer_errors import LayerError
from stages.quantize.tries import Judged, Made, Tries, known_layers

ERRORS_FILE = "layer-errors.json"
INT8 = Quantization(scheme="int8")


@dataclass(frozen=True)
class Climbed:
    """Hold the quantized model that the ladder ended on, its calibration set if it has one, and the report."""

    quantized: Artifact
    calibration: Artifact | None
    report: Artifact


class Ladder:
    """Climb once, from the fastest rung on."""

    def __init__(self, context: StageContext[QuantizeConfig]) -> None:
        self._context, self._config = context, context.config
        self._files = Tries(context, self._config.ladder_format, "quantize.ladder")
        self._tries: list[LadderTry] = []
        self._errors: list[LayerError] = []

    def climb(self) -> Climbed:
        """Return the scheme to take; PostconditionError, with what was tried, if none is accurate enough."""
        rungs = self._by_latency([rung for rung in self._rungs if rung != SELECTIVE])
        reserve: tuple[Made, float] | None = None  # accurate enough, unless a faster rung is, too
        for index, (made, ratio) in enumerate(rungs):
            if reserve is not None and ratio >= reserve[1]:
                break
            if self._accurate(made, ratio):
                return self._climbed(made, f"the fastest of {len(rungs)} rungs that is")
            if self._selective_comes_after(index, rungs):
                reserve = self._selected()
        if not rungs:
            reserve = self._selected()
        if reserve is None:
            losses = ", ".join(f"{attempt.name} {attempt.accuracy_drop:.4f}" for attempt in self._tries)
            raise PostconditionError(
                f"no rung of the ladder loses at most {self._bound:g} of accuracy: {losses}",
                where="quantize.ladder",
                hint="add float16 or float32, allow more, or train for it",
            )
        return self._climbed(reserve[0], "int8 with as few layers in float as hold the bound")

    @property
    def _rungs(self) -> tuple[Rung, ...]:
        return self._config.ladder or ()

    @property
    def _bound(self) -> float:
        assert self._config.max_accuracy_drop is not None
        return self._config.max_accuracy_drop

    def _selective_comes_after(self, index: int, rungs: Sequence[tuple[Made, float]]) -> bool:
        """Return whether selective is next: it is slower than int8, so it follows it, or comes first without int8."""
        if SELECTIVE not in self._rungs:
            return False
        names = [made.name for made, _ in rungs]
        return index == (names.index("int8") if "int8" in names else 0)

    def _by_latency(self, names: Sequence[Rung]) -> list[tuple[Made, float]]:
        timed = []
        for done, name in enumerate(names):
            self._context.events.advanced(done, len(self._rungs), "rungs", f"latency of {name}")
            made = self._tried(name, Quantization(scheme=name))  # type: ignore[arg-type]  # `selective` is not among them
            if made is not None:
                timed.append((made, self._latency(made)))
        return sorted(timed, key=lambda rung: rung[1])

    def _selected(self) -> tuple[Made, float] | None:
        """Return int8 with the worst layers in float, 1, 2, 4 … of them until the bound holds, or None."""
        if self._tried("int8", INT8) is None:
            return None
        budget = Budget(max_accuracy_drop=self._bound, candidates=0)
        search = Search(self._files, INT8, budget, known_layers(self._context))
        try:
            best = search.run()
        except PostconditionError:
            best = None
        self._errors = search.errors
        for tried in search.tried:
            if tried.kept or "int8" not in (attempt.name for attempt in self._tries):
                self._record(SELECTIVE, tried.made, None, tried.judged)
        if best is None:
            return None
        made, ratio = replace(best.made, name=SELECTIVE), self._latency(best.made)
        self._tries[-1] = self._tries[-1].model_copy(update={"latency_ratio": ratio})
        return made, ratio

    def _tried(self, name: str, quantization: Quantization) -> Made | None:
        """Return a rung; None, with a warning, if the model can't be converted or the conversion crashes."""
        try:
            return self._files.make(name, quantization)
        except (UnsupportedError, NativeEndError) as error:
            self._context.events.warned(f"ladder: without {name}: {error}")
            return None

    def _latency(self, made: Made) -> float:
        """Return the latency relative to float32's."""
        return self._files.cost(made, self._config.ladder_target, self._config.ladder_rounds)[1]

    def _accurate(self, made: Made, ratio: float | None) -> bool:
        """Return whether the bound holds; records the try."""
        self._context.events.advanced(len(self._tries), len(self._rungs), "rungs", f"accuracy of {made.name}")
        return self._record(made.name, made, ratio, self._files.judge(made)) <= self._bound

    def _record(self, name: str, made: Made, ratio: float | None, judged: Judged) -> float:
        """Record a try, and return the accuracy that it lost."""
        drop = judged.accuracy_drop
        if drop is None:
            what = "a ladder goes by accuracy, and there is none here"
            raise PreconditionError(what, where="quantize.ladder", hint="it is for one output of classes")
        self._tries.append(
            LadderTry(
                name=name,
                kept_float=tuple(sorted(made.how.keep_float)),
                size_bytes=made.export.size_bytes,
                latency_ratio=ratio,
                accuracy_drop=drop,
            )
        )
        return drop

    def _climbed(self, made: Made, why: str) -> Climbed:
        context = self._context
        chosen = next(attempt for attempt in reversed(self._tries) if attempt.name == made.name)
        lost = ", ".join(
            f"{attempt.name} loses {attempt.accuracy_drop:.4f}" for attempt in self._tries if attempt is not chosen
        )
        kept = f" with {', '.join(chosen.kept_float)} in float" if chosen.kept_float else ""
        context.events.warned(
            f"ladder: {made.name}{kept} loses {chosen.accuracy_drop:.4f} (at most {self._bound:g} is allowed) "
            f"in {chosen.latency_ratio:.2f} of float32's time" + (f"; {lost}" if lost else "")
        )
        facts = LadderFacts(
            target=self._config.ladder_target,
            max_accuracy_drop=self._bound,
            tries=tuple(self._tries),
            chosen=made.name,
            why=why,
        )
        document = rfc8785.dumps([error.model_dump() for error in self._errors])
        files = (context.write(ERRORS_FILE, document, "application/json"),) if self._errors else ()
        return Climbed(made.quantized, made.calibration, Artifact(files=files, facts=facts))
