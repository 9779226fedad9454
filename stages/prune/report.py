"""Report what pruning did, group by group, as a value that is recorded."""

from __future__ import annotations

from typing import Literal

import rfc8785

from pipeline.errors import first_few
from pipeline.records.values import Value
from stages.prune.choosing.cost import Measure
from stages.prune.config import Competition, Scope


class GroupReport(Value):
    """Describe a group: the layers that make, scale and read its channels; `removed` counts from 0 within the group.

    `predicted_loss` is what the criterion expects of it without them; None if the criterion predicts no loss.
    """

    name: str
    producers: tuple[str, ...]
    pass_through: tuple[str, ...]
    consumers: tuple[str, ...]
    channels_before: int
    channels_after: int
    removed: tuple[int, ...]
    predicted_loss: float | None
    frozen: tuple[str, ...]


class DepletedGroup(Value):
    """Name a group that has lost more than 75 % of its channels, with those it had in the source and has now."""

    name: str
    channels_in_source: int
    channels_after: int


class SearchReport(Value):
    """Report how many distributions of the goal were tried, and by which factors groups' losses counted in the best.

    Errors are the mean squared differences of the network's outputs on held-out samples, each layer re-fitted alone,
    relative to the variance of the outputs: of the best, and of equal factors.
    """

    tried: int
    output_error: float
    output_error_of_equal: float
    factors: dict[str, float]


class PruneReport(Value):
    """Report the request, the result, and the proof. Channels are counted over the groups that are not frozen.

    `wanted` and `reached` are what is left of `measure`, as shares of the source; no share is wanted if patterns say
    what goes.

    The MACs are lower bounds if `macs_unknown` names layers whose MACs are not known.

    `kept` holds, for each layer that lost outputs, which of the channels it made before are left, by index.

    `competition` says which groups competed, None if no ranking over groups decided. `depleted` lists groups that lost
    more than 75 % of their channels, and `prevention` is the setting, tried on this network, with which none would at
    the same goal; None if only asking for less would help.

    `predicted_loss` is the sum over the groups; None if the criterion predicts no loss. `search` tells how groups'
    losses were weighed by trial, for scope `loss`.

    `equivalence_error` is the largest relative difference from the masked original, `masking_effect` the difference
    that masking made to the original.
    """

    schema_version: Literal[3] = 3
    criterion: str
    scope: Scope
    competition: Competition | None
    measure: Measure
    wanted: float | None
    reached: float
    predicted_loss: float | None
    search: SearchReport | None
    removed_share: float
    channels_before: int
    channels_after: int
    params_before: int
    params_after: int
    macs_before: int
    macs_after: int
    macs_unknown: tuple[str, ...]
    equivalence_error: float
    masking_effect: float
    depleted: tuple[DepletedGroup, ...]
    prevention: str | None
    groups: tuple[GroupReport, ...]
    kept: dict[str, tuple[int, ...]]

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what a reader must know besides the numbers, in sentences: depleted groups, and the way out."""
        if not self.depleted:
            return ()
        named = [f"{g.name} keeps {g.channels_after} of {g.channels_in_source}" for g in self.depleted]
        way_out = f"{self.prevention} prevents this" if self.prevention else "ask for less to prevent this"
        return (f"more than 75 % of the channels are gone: {first_few(named)}; {way_out}",)

    def to_json(self) -> bytes:
        """Return canonical JSON: equal reports are equal bytes."""
        return rfc8785.dumps(self.model_dump(mode="json"))
