"""Report what pruning did, group by group, as a value that is recorded."""

from __future__ import annotations

from typing import Literal

import rfc8785

from pipeline.records.values import Value
from stages.prune.choosing.cost import Measure
from stages.prune.config import Scope


class GroupReport(Value):
    """Describe a group: the layers that make, scale and read its channels; `removed` counts from 0 within the group."""

    name: str
    producers: tuple[str, ...]
    pass_through: tuple[str, ...]
    consumers: tuple[str, ...]
    channels_before: int
    channels_after: int
    removed: tuple[int, ...]
    frozen: tuple[str, ...]


class PruneReport(Value):
    """Report the request, the result, and the proof. Channels are counted over the groups that are not frozen.

    `wanted` and `reached` are what is left of `measure`, as shares of the source; no share is wanted if patterns say
    what goes.

    The MACs are lower bounds if `macs_unknown` names layers whose MACs are not known.

    `equivalence_error` is the largest relative difference from the masked original, `masking_effect` the difference
    that masking made to the original.
    """

    schema_version: Literal[2] = 2
    criterion: str
    scope: Scope
    measure: Measure
    wanted: float | None
    reached: float
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
    groups: tuple[GroupReport, ...]

    def to_json(self) -> bytes:
        """Return canonical JSON: equal reports are equal bytes."""
        return rfc8785.dumps(self.model_dump(mode="json"))
