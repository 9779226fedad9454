"""Declare criteria: what makes a channel important, what that takes, and how far the scores can be compared.

Each criterion is one function under `@criterion` and one line under the entry-point group `secateur.criteria`, so a
package of yours can add some. What such a line loads imports neither TensorFlow nor numpy at its top: plans ask what a
criterion needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic_core import core_schema

from pipeline.errors import SecateurError
from pipeline.system.plugins import loaded, named_in
from stages.keras.types import KerasModel

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from stages.keras.channels.groups import ChannelGroup
    from stages.prune.ranking.members import Member
    from stages.samples.batches import Progress
    from stages.samples.model_samples import ModelSamples

CRITERIA_GROUP = "secateur.criteria"
Needs = Literal["weights", "samples", "labels"]
Sparse = Literal["magnitude", "random"]


@dataclass(frozen=True, slots=True)
class Question:
    """Hold what a criterion is asked: the channel groups of a model, what to rank them by, and who hears of progress.

    `samples` are as many as the settings allow; none if the criterion needs weights alone.
    """

    model: KerasModel
    groups: Sequence[ChannelGroup]
    seed: int
    samples: ModelSamples
    heard: Progress


# For each group, values from each layer that the criterion judges; none if it can't rank the group.
Score = Callable[[Question], list[list["Member"]]]


@dataclass(frozen=True, slots=True)
class Criterion:
    """Declare a criterion.

    `needs` is what it looks at: weights alone, samples, or samples with labels. Raw scores of a `comparable` one mean
    the same in every layer, so groups compete without normalization. Those of a `loss` are the rise of the loss without
    a channel: comparable too, they add up over the layers of a group, and relative to what a channel costs they say
    which is the best to remove. `sparse` is how single weights are ranked under the same name, if they can be.
    """

    score: Score | None  # None: it ranks single weights only
    needs: Needs = "weights"
    comparable: bool = False
    loss: bool = False
    sparse: Sparse | None = None

    @property
    def split(self) -> Literal["train", "calibration"] | None:
        """Return the split whose samples it looks at unless the settings name another; None if it looks at none."""
        if self.needs == "weights":
            return None
        return "train" if self.needs == "labels" else "calibration"


def criterion(
    *, needs: Needs = "weights", comparable: bool = False, loss: bool = False, sparse: Sparse | None = None
) -> Callable[[Score], Criterion]:
    """Return a decorator that declares a function as a criterion."""
    return lambda score: Criterion(score, needs, comparable or loss, loss, sparse)


@cache
def criteria() -> Mapping[str, EntryPoint]:
    """Return the entry points of all installed criteria by name; nothing is imported."""
    points = sorted(named_in(CRITERIA_GROUP), key=lambda point: point.name)
    return MappingProxyType({point.name: point for point in points})


@cache
def declared(name: str) -> Criterion:
    """Return the declaration of an installed criterion; SecateurError if its package is broken."""
    point = criteria()[name]
    declaration = loaded(point, "criterion")
    if not isinstance(declaration, Criterion):
        raise SecateurError(f"{name} is not declared as a criterion", where=point.value, hint="put @criterion above it")
    return declaration


def package_of(name: str) -> tuple[str, ...]:
    """Return the distribution that brings a criterion; none for one of ours, which the stage's version covers."""
    point = criteria()[name]
    ours = point.module.partition(".")[0] == __name__.partition(".")[0]
    return () if ours or point.dist is None else (point.dist.name,)


class _Installed:
    """Validate that a setting names an installed criterion, with the error and the JSON Schema of a `Literal`."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        return core_schema.literal_schema(list(criteria()))


CriterionName = Annotated[str, _Installed]
