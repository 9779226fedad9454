"""Plan unstructured sparsity: which individual weights are zero, now and at each step of training.

A model with sparsity to keep has a *plan* next to it (`sparsity.json` in its artifact): its kernels, how many of their
weights are to be zero and by which criterion. Its masks are its zeros, so a plan and a model are all that training
needs. `docs/design/sparsity.md` says why the masks themselves are not stored.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import rfc8785
from pydantic import Field

from pipeline.records.artifacts import Artifact
from pipeline.records.values import Value
from stages.keras.sparsity_facts import SparsityFacts
from stages.keras.types import KerasModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.contracts.stage import StageContext

    Mask = NDArray[np.bool_]
    Values = NDArray[Any]

PLAN_FILE = "sparsity.json"
INPUTS_OF_FOUR, KEPT_OF_FOUR = 4, 2


class PlannedKernel(Value):
    """Identify a weight, by its layer and its place among the layer's weights, and its final share of zeros."""

    layer: str
    weight: int
    share: float = Field(ge=0, lt=1)


class SparsityPlan(Value):
    """Plan which weights are finally zero.

    `scope` `global` ranks all weights together, so that kernels' shares hold on average only. `pattern`: `free` any
    weight; `2:4` two of four consecutive input channels; `block` tiles of `block` (rows, columns) of the kernel as a
    matrix with one column an output channel. `reached_at` is the share of the training after which it is complete, by a
    cubic schedule; 0 means from the start.
    """

    schema_version: Literal[1] = 1
    criterion: Literal["magnitude", "random"]
    scope: Literal["layer", "global"]
    pattern: Literal["free", "2:4", "block"]
    block: tuple[int, int]
    reached_at: float
    seed: int
    kernels: tuple[PlannedKernel, ...]

    def variables(self, model: KerasModel) -> list[Any]:
        """Return the kernels as variables of a model."""
        return [model.get_layer(kernel.layer).weights[kernel.weight] for kernel in self.kernels]

    def masks(self, values: Sequence[Values], progress: float = 1.0) -> list[Mask]:
        """Return for each kernel where its weights stay, at `progress` of the final zeros. Zeros stay zeros."""
        import numpy as np

        scores = [self._scores(value, index) for index, value in enumerate(values)]
        if self.pattern == "2:4":
            return [_two_of_four(score) for score in scores]
        shares = [kernel.share * progress for kernel in self.kernels]
        if self.scope == "global":
            whole = sum(share * score.size for share, score in zip(shares, scores, strict=True))
            flat = np.concatenate([score.ravel() for score in scores])
            kept = _largest(flat, whole / flat.size)
            ends = np.cumsum([score.size for score in scores])[:-1]
            return [m.reshape(s.shape) for m, s in zip(np.split(kept, ends), scores, strict=True)]
        if self.pattern == "block":
            return [_blocks(score, share, self.block) for score, share in zip(scores, shares, strict=True)]
        return [_largest(score, share) for score, share in zip(scores, shares, strict=True)]

    def progress(self, trained: float) -> float:
        """Return the share of the final zeros due after the share `trained` of the training.

        Cubic: most at first, while the network can still recover (Zhu and Gupta, "To prune, or not to prune", 2017).
        """
        if self.reached_at == 0 or trained >= self.reached_at:
            return 1.0
        return 1 - (1 - trained / self.reached_at) ** 3

    def _scores(self, value: Values, index: int) -> Values:
        import numpy as np

        if self.criterion == "magnitude":
            return np.asarray(np.abs(value))
        drawn = np.random.default_rng((self.seed, index)).random(value.shape)
        return np.asarray(np.where(value == 0, -1.0, drawn))  # removed weights stay removed


def _largest(scores: Values, share: float) -> Mask:
    """Return which scores stay when a share of them is removed; at least one stays."""
    import numpy as np

    gone = scores.size - max(round(scores.size * (1 - share)), 1)
    kept = np.ones(scores.size, dtype=bool)
    if gone:
        kept[np.argpartition(scores.ravel(), gone - 1)[:gone]] = False
    return kept.reshape(scores.shape)


def _two_of_four(scores: Values) -> Mask:
    """Return the two largest of each four consecutive inputs (the axis before the last); missing inputs go first."""
    import numpy as np

    inputs = scores.shape[-2]
    rows = np.moveaxis(scores, -2, -1)
    padded = np.full((*rows.shape[:-1], -(-inputs // INPUTS_OF_FOUR) * INPUTS_OF_FOUR), -np.inf)
    padded[..., :inputs] = rows
    fours = padded.reshape(*padded.shape[:-1], -1, INPUTS_OF_FOUR)
    # Stable: of equal weights the first ones stay, on every machine.
    ranks = np.argsort(np.argsort(-fours, axis=-1, kind="stable"), axis=-1, kind="stable")
    kept = (ranks < KEPT_OF_FOUR).reshape(padded.shape)[..., :inputs]
    return np.asarray(np.moveaxis(kept, -1, -2))


def _blocks(scores: Values, share: float, block: tuple[int, int]) -> Mask:
    """Keep the blocks with the largest mean; those at the edge may be smaller."""
    import numpy as np

    matrix = scores.reshape(-1, scores.shape[-1])
    starts = [np.arange(0, size, step) for size, step in zip(matrix.shape, block, strict=True)]
    sums = np.add.reduceat(np.add.reduceat(matrix, starts[0], axis=0), starts[1], axis=1)
    sizes = [np.diff(np.append(start, size)) for start, size in zip(starts, matrix.shape, strict=True)]
    # By the mean, as in tfmot's default `block_pooling_type='AVG'`: the masks are to be the same.
    kept = _largest(sums / np.outer(*sizes), share)
    return np.asarray(kept.repeat(sizes[0], axis=0).repeat(sizes[1], axis=1).reshape(scores.shape))


def apply_masks(model: KerasModel, plan: SparsityPlan) -> None:
    """Set the weights that the plan finally removes to zero, in place."""
    variables = plan.variables(model)
    values = [variable.numpy() for variable in variables]
    for variable, value, mask in zip(variables, values, plan.masks(values), strict=True):
        variable.assign(value * mask)


def plan_of(context: StageContext[Any], input_name: str = "model") -> SparsityPlan | None:
    """Return the plan of an input model."""
    if not any(file.name == PLAN_FILE for file in context.inputs[input_name].files):
        return None
    return SparsityPlan.model_validate_json(context.read(input_name, PLAN_FILE).read_bytes())


def plan_files(context: StageContext[Any], plan: SparsityPlan | None) -> Iterator[Any]:
    """Yield the plan as a file of the model that is passed on; nothing if there is none."""
    if plan is not None:
        yield context.write(PLAN_FILE, rfc8785.dumps(plan.model_dump(mode="json")), "application/json")


def sparsity_report(model: KerasModel, plan: SparsityPlan) -> Artifact:
    """Report how sparse each planned layer is, and how well it compresses."""
    import numpy as np

    layers: dict[str, list[int]] = {}
    for kernel, variable in zip(plan.kernels, plan.variables(model), strict=True):
        counts = layers.setdefault(kernel.layer, [0, 0])
        value = variable.numpy()
        counts[0] += value.size - int(np.count_nonzero(value))
        counts[1] += value.size
    weights = [np.ascontiguousarray(weight) for weight in model.get_weights()]
    facts = SparsityFacts(
        weights=sum(size for _, size in layers.values()),
        zeros=sum(zeros for zeros, _ in layers.values()),
        layers={name: zeros / size for name, (zeros, size) in layers.items()},
        weight_bytes=sum(weight.nbytes for weight in weights),
        gzip_bytes=_gzip_size(weights),
    )
    return Artifact(files=(), facts=facts)


def _gzip_size(arrays: Sequence[Values]) -> int:
    """Return the size in bytes of all arrays, concatenated, under gzip -6."""
    # 31 is a window of 15 bits in gzip's own frame.
    packer = zlib.compressobj(6, wbits=31)
    return sum(len(packer.compress(array.data)) for array in arrays if array.size) + len(packer.flush())
