"""What the user may say about pruning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.stage import StageConfig

Criterion = Literal["l1", "l2", "bn_scale", "random"]
Scope = Literal["layer", "global"]


class PruneConfig(StageConfig):
    """How channels are chosen and how many go.

    `l2` and `l1` rank a channel by the size of the filters that make it: good defaults that need no data. `bn_scale`
    ranks by the batch normalisation's scale: choose it where the network was trained with a penalty on these scales.
    `random` is the yardstick that any other criterion has to beat.

    `layer` takes the same share in each group: choose it for a high ratio, or where no layer may become a bottleneck.
    `global` takes the least important channels of the whole network, wherever they are.
    """

    method: Literal["structured"] = Field("structured", description="whole channels go, so that any runtime is faster")
    criterion: Criterion = Field("l2", description="what makes a channel important")
    scope: Scope = Field("global", description="one ranking over the network, or the ratio in each group")
    ratio: float = Field(0.5, ge=0, lt=1, description="share of channels taken away over all groups not frozen")
    round_to: int = Field(1, ge=1, description="channels kept are a multiple of this where a group is that big")
    min_channels: int = Field(1, ge=1, description="no layer keeps fewer channels than this")
    exclude: tuple[str, ...] = Field((), description="names or patterns of layers whose channels stay: head*")
