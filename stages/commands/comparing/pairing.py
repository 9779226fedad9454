"""Pair the models of one side with those of the other."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import RecipeError
from stages.commands.comparing.operands import Model, Operand
from stages.formats.registry import format_of_kind


@dataclass(frozen=True)
class Pair:
    """Hold two models to compare; `name` is their common name, or the candidate's."""

    name: str
    baseline: Model
    candidate: Model


def pairs_of(base: Operand, candidate: Operand) -> tuple[list[Pair], list[str]]:
    """Pair models by name, or the only one of each side; also describe unpaired ones. RecipeError if none pair."""
    first, second = base.models, candidate.models
    if len(first) == len(second) == 1:
        return [_pair(first[0], second[0])], []
    if 1 in (len(first), len(second)) and not (base.run and candidate.run):
        many, single = (base, second[0]) if len(second) == 1 else (candidate, first[0])
        alike = [model for model in many.models if model.kind == single.kind]
        if len(alike) != 1:
            names = ", ".join(f"{many.name}:{model.label}" for model in many.models)
            what = f"{many.name} has {len(many.models)} models, and {single.label} can be compared with one"
            raise RecipeError(what, hint=f"name one of {names}")
        pair = (alike[0], single) if many is base else (single, alike[0])
        return [_pair(*pair)], []
    by_label = {model.label: model for model in second}
    pairs = [_pair(model, by_label[model.label]) for model in first if model.label in by_label]
    labels = {model.label for model in first}
    unpaired = [f"{model.label}: only in {base.name}" for model in first if model.label not in by_label]
    unpaired += [f"{model.label}: only in {candidate.name}" for model in second if model.label not in labels]
    if not pairs:
        raise RecipeError(
            f"{base.name} and {candidate.name} have no export in common", hint="; ".join(unpaired) or None
        )
    return pairs, unpaired


def _pair(baseline: Model, candidate: Model) -> Pair:
    if baseline.kind != candidate.kind:
        formats = f"{format_of_kind(baseline.kind).name} and {format_of_kind(candidate.kind).name}"
        what = f"{baseline.label} and {candidate.label} can't be compared: {formats}"
        raise RecipeError(what, hint="that would compare runtimes, not models: name two files of one format")
    return Pair(candidate.label, baseline, candidate)
