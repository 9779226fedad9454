"""Define the settings of pruning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.contracts.stage import StageConfig
from pipeline.records.values import Value
from stages.formats.probe import ProbeScheme
from stages.formats.probe_models import ProbeFormat
from stages.prune.ranking.criterion import Criterion, CriterionName, criteria, declared

Reduction = Literal["mean", "max", "sum", "first"]
Normalisation = Literal["mean", "max", "standardised", "none"]
Scope = Literal["layer", "global", "sensitivity", "loss"]
Competition = Literal["isomorphic", "all"]
Split = Literal["train", "validation", "calibration"]
Ratio = Annotated[float, Field(ge=0, lt=1)]

RATIO_OF = {
    "latency": "latency_ratio",
    "instructions": "instruction_ratio",
}  # the measure, and benchmark's metric for it
MEASURED = tuple(RATIO_OF)
TARGETS = ("macs", "params", "bytes", *MEASURED)


class RankingConfig(StageConfig):
    """Set how channels are ranked.

    `l2` needs no data; `taylor` chooses best if there are labelled samples; `hessian` needs samples without labels;
    so does `obs`, which chooses best if `reconstruct` follows;
    `lamp` distributes a target on parameters well; `random` is the yardstick that any other has to beat. Each
    criterion's docstring says when to choose it and where it is from.
    """

    criterion: CriterionName = Field("l2", description="what makes a channel important")
    reduction: Reduction = Field("mean", description="one score from those of all layers that make the channel")
    normalisation: Normalisation | None = Field(
        None, description="how groups compare; none if the criterion's scores are comparable between layers, else mean"
    )
    samples: int = Field(256, ge=1, description="how many samples the criterion looks at, if it looks at any")
    data_split: Split | None = Field(None, description="whose samples; train if it needs labels, else calibration")

    @model_validator(mode="after")
    def _criterion_takes_them(self) -> Self:
        for name in ("samples", "data_split"):
            is_set = name in self.model_fields_set and getattr(self, name) is not None
            if is_set and self.declared.split is None:
                suitable = _listed(lambda criterion: criterion.split is not None)
                raise ValueError(f"{name} is for {suitable}: {self.criterion} looks at no data")
        if "reduction" in self.model_fields_set and self.declared.loss:
            raise ValueError(f"reduction has nothing to reduce: {self.criterion} judges the whole group at once")
        return self

    @property
    def declared(self) -> Criterion:
        """Return the declaration of the criterion."""
        return declared(self.criterion)

    @property
    def normalisation_of_criterion(self) -> Normalisation:
        """Return the requested normalization, or the one that suits the criterion."""
        return self.normalisation or ("none" if self.declared.comparable else "mean")

    @property
    def split_of_criterion(self) -> Split | None:
        """Return the split whose samples the criterion uses; None if it uses weights alone."""
        split = self.declared.split
        return split and (self.data_split or split)

    def require_channels_ranked(self) -> None:
        """Raise ValueError if the criterion ranks single weights only."""
        if self.declared.score is None:
            alike = _listed(lambda criterion: criterion.score is not None and criterion.sparse == self.declared.sparse)
            raise ValueError(f"{self.criterion} is for method: unstructured; channels are ranked alike by {alike}")


def _listed(chosen: Callable[[Criterion], bool]) -> str:
    """Return the names of the criteria that are chosen, as text."""
    *names, last = [name for name in criteria() if chosen(declared(name))]
    return f"{', '.join(names)} and {last}" if names else last


class ScanConfig(RankingConfig):
    """Scan accuracy over the ratio: each group alone, without changing the others."""

    ratios: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field((0.25, 0.5, 0.75, 0.9), min_length=1)
    scan_split: Split = Field("validation", description="the split on which accuracy is measured")
    scan_samples: int = Field(512, ge=1, description="how many samples of it")
    exclude: tuple[str, ...] = Field((), description="names or patterns of layers whose channels stay: head*")

    @model_validator(mode="after")
    def _masks_channels(self) -> Self:
        self.require_channels_ranked()
        return self


class SparsityConfig(Value):
    """Set which individual weights become zero, and when."""

    count: int | None = Field(None, ge=1, description="weights taken from each layer, in place of a ratio")
    pattern: Literal["free", "2:4", "block"] = Field(
        "free", description="any weight; two of four consecutive inputs; whole blocks"
    )
    block: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = Field(
        (4, 4), description="rows and columns of a block, of the kernel as a matrix with a column an output channel"
    )
    schedule: Literal["constant", "polynomial"] = Field(
        "constant", description="all at once, or little by little (cubic) during the fine-tuning that follows"
    )
    reached_at: float = Field(0.7, gt=0, le=1, description="the share of the fine-tuning after which it is all reached")


class MeasureOn(Value):
    """Set the device, the format and the scheme in which layers and the pruned network are measured."""

    target: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="see secateur target list")]
    format: ProbeFormat = "tflite"
    scheme: ProbeScheme = Field("int8", description="float16 computes as float32 does")
    mixed: bool = Field(
        False,
        description="int8 with those layers in float32 that are faster so, as by faster_on (tflite)",
    )

    @model_validator(mode="after")
    def _mixed_where_it_can_be(self) -> Self:
        if self.mixed and (self.format, self.scheme) != ("tflite", "int8"):
            raise ValueError(f"mixed is for int8 in tflite, not for {self.scheme} in {self.format}")
        return self


class PruneConfig(RankingConfig):
    """Set how channels are ranked, how many go, and from where.

    Scopes: `layer` removes the same share of each group: choose it if no layer may become a bottleneck. `loss` spends
    the goal where the predicted loss per unit saved is least, and searches by trial how much each group's loss counts:
    choose it with `obs`, before `reconstruct`. `global`
    removes the least important channels, wherever they are: with `compete: isomorphic` the same share of each class of
    groups that are built alike, so that no kind of layer is emptied because its scores are low; with `compete: all`
    those of the whole network in one ranking. `sensitivity` measures each group's accuracy at some ratios first and
    removes most where it costs least.

    How many: `ratio`, or a target `macs`, `params` or `bytes` (what is to be left: a fraction, or above 1 a number), or
    a target `latency` (above 1: milliseconds) or `instructions` that the exported network meets within `tolerance` on
    the device that `measure_on` names, compared with the source in the same format and scheme; or with `layers` a ratio
    for each pattern, or with `thresholds` a minimum score (before normalization) for each. With `layers` and
    `thresholds`, nothing else is pruned.

    `round_to: auto` asks the device of `measure_on` which numbers of channels are steps: runtimes compute channels in
    tiles, so that 25 can cost as much as 32.

    `unstructured` sets individual weights to zero, by `magnitude` or at `random`, a share in each layer or over all
    (`scope`), as `sparsity` says.
    """

    method: Literal["structured", "unstructured"] = Field(
        "structured", description="whole channels go, so that any runtime is faster; or single weights become zero"
    )
    scope: Scope = Field("global", description="one ranking over the network, or in each group, by a scan, or by loss")
    compete: Competition | None = Field(
        None,
        description="for scope global: channels compete with those of groups built alike, or with all; isomorphic for "
        "taylor and hessian with a ratio and for scores that are not normalized, else all",
    )
    ratio: Ratio | None = Field(None, description="share of channels taken away over all groups not frozen; 0.5")
    macs: float | None = Field(None, gt=0, description="multiply-accumulates left")
    params: float | None = Field(None, gt=0, description="parameters left")
    bytes: float | None = Field(None, gt=0, description="bytes of weights left")
    latency: float | None = Field(None, gt=0, description="of the latency left on measure_on's device")
    instructions: float | None = Field(None, gt=0, description="of the instructions left on measure_on's device")
    layers: dict[str, Ratio] = Field(default_factory=dict, description="ratios by pattern: block2_*")
    thresholds: dict[str, float] = Field(default_factory=dict, description="least scores that stay, by pattern")
    round_to: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        1, description="channels kept are a multiple of this where a group is that big; or auto: measured steps"
    )
    measure_on: MeasureOn | None = Field(None, description="for round_to: auto, latency and instructions: {target: …}")
    tolerance: float = Field(
        0.03, gt=0, description="of latency and instructions: how far from what is asked for is near enough"
    )
    min_channels: int = Field(1, ge=1, description="no layer keeps fewer channels than this")
    exclude: tuple[str, ...] = Field((), description="names or patterns of layers whose channels stay: head*")
    search: int = Field(
        100, ge=0, le=10_000, description="for scope loss: how many distributions are tried on the network; 0: none"
    )
    search_at: float | None = Field(
        None,
        gt=0,
        lt=1,
        exclude_if=lambda at: at is None,  # not in the key then: recipes without it keep their keys
        description="for scope loss: search once for all targets, where this share of what can go is left; none: at "
        "each target anew",
    )
    scan: ScanConfig | None = Field(None, description="for scope sensitivity: what to measure")
    sparsity: SparsityConfig = Field(default_factory=SparsityConfig, description="for method unstructured")

    @model_validator(mode="after")
    def _one_way_to_say_how_many(self) -> Self:
        settings = [name for name in ("ratio", *TARGETS) if getattr(self, name) is not None]
        settings += [name for name in ("layers", "thresholds") if getattr(self, name)]
        if len(settings) > 1:
            raise ValueError(f"{' and '.join(settings)} say the same thing: give one of them")
        if (self.layers or self.thresholds) and "scope" in self.model_fields_set:
            raise ValueError(f"{settings[0]} says where from: leave scope out")
        if self.scan is not None and self.scope != "sensitivity":
            raise ValueError("scan is for scope: sensitivity")
        if "search" in self.model_fields_set and self.scope != "loss":
            raise ValueError("search is for scope: loss")
        if self.search_at is not None and (self.scope != "loss" or not self.search):
            raise ValueError("search_at is for scope: loss, with a search")
        if self.compete is not None and self.method == "structured" and self.competition is None:
            raise ValueError("compete is for scope: global, with a ratio or a target")
        return self

    @model_validator(mode="after")
    def _measured_somewhere(self) -> Self:
        asks = [name for name in MEASURED if getattr(self, name) is not None]
        asks += ["round_to: auto"] if self.round_to == "auto" else []
        if asks and self.measure_on is None:
            raise ValueError(f"{asks[0]} needs a device: measure_on: {{target: cortex-a72}}")
        if self.measure_on is not None and not asks:
            raise ValueError("measure_on is for round_to: auto, latency and instructions")
        if "tolerance" in self.model_fields_set and not self.measured_target:
            raise ValueError("tolerance is for latency and instructions")
        return self

    @model_validator(mode="after")
    def _settings_of_the_method(self) -> Self:
        settings = self.model_fields_set
        if self.method == "structured":
            if "sparsity" in settings:
                raise ValueError("sparsity is for method: unstructured")
            self.require_channels_ranked()
            self._require_losses()
            return self
        if "criterion" in settings and self.declared.sparse is None:
            raise ValueError(f"single weights are ranked by magnitude or at random, not by {self.criterion}")
        foreign = sorted(settings - {"method", "criterion", "scope", "ratio", "layers", "exclude", "sparsity"})
        if foreign:
            raise ValueError(f"{foreign[0]} is for method: structured")
        if self.scope in ("sensitivity", "loss"):
            raise ValueError(f"scope {self.scope} is for method: structured")
        return self._sparsity_fits()

    def _require_losses(self) -> None:
        if self.scope == "loss" and not self.declared.loss:
            suitable = _listed(lambda criterion: criterion.loss)
            raise ValueError(f"scope loss adds up losses, which {self.criterion} does not predict: {suitable} do")

    def _sparsity_fits(self) -> Self:
        sparsity, settings = self.sparsity, self.model_fields_set
        over_all = "scope" in settings and self.scope == "global"
        if sparsity.count is not None and ({"ratio", "layers"} & settings or over_all):
            raise ValueError("sparsity.count is a number for each layer: leave ratio, layers and scope: global out")
        if sparsity.pattern != "free" and over_all:
            raise ValueError(f"pattern {sparsity.pattern} goes layer by layer: scope: layer")
        if sparsity.pattern == "2:4" and (self.ratio not in (None, 0.5) or self.layers or sparsity.count):
            raise ValueError("2:4 makes half of the weights zero: leave ratio, layers and count out")
        if sparsity.pattern == "2:4" and sparsity.schedule == "polynomial":
            raise ValueError("2:4 is there at once or not at all: schedule: constant")
        return self

    @property
    def competition(self) -> Competition | None:
        """Return which groups compete under scope `global`, as requested or as suits the scores; else None.

        All compete if something makes any two channels comparable, however their layers are built: a normalization, a
        criterion that balances layers by itself (`lamp`, `random`), or a target, where a loss counts per unit saved.
        """
        if self.method != "structured" or self.scope != "global" or self.layers or self.thresholds:
            return None
        balanced = self.target is not None if self.declared.loss else self.declared.comparable
        balanced = balanced or self.normalisation_of_criterion != "none"
        return self.compete or ("all" if balanced else "isomorphic")

    @property
    def sparse_scope(self) -> Literal["layer", "global"]:
        """Return the scope for individual weights: global only if that was requested and is possible."""
        per_layer = self.layers or self.sparsity.count is not None or self.sparsity.pattern != "free"
        return "layer" if per_layer or self.scope != "global" else "global"

    @property
    def target(self) -> tuple[str, float] | None:
        """Return the measure and what is to be left of it: a fraction up to 1, else a number."""
        return next(((name, float(getattr(self, name))) for name in TARGETS if getattr(self, name) is not None), None)

    @property
    def measured_target(self) -> bool:
        """Return whether the target is met by measuring the exported network."""
        return self.target is not None and self.target[0] in MEASURED

    @property
    def share(self) -> float:
        """Return the share of channels to remove, if no target or pattern says otherwise."""
        return 0.5 if self.ratio is None else self.ratio

    @property
    def nothing_goes(self) -> bool:
        """Return whether nothing is to be removed."""
        return self.ratio == 0 or (bool(self.layers) and not any(self.layers.values()))

    @property
    def weighs_once(self) -> bool:
        """Return whether one search serves all targets."""
        return self.search_at is not None and not self.nothing_goes

    @property
    def scan_or_default(self) -> ScanConfig:
        """Return the scan for scope `sensitivity`: it ranks channels and leaves out layers as pruning does."""
        asked = self.scan.model_dump(exclude_unset=True) if self.scan else {}
        ranking = {name: getattr(self, name) for name in RankingConfig.model_fields if name in self.model_fields_set}
        return ScanConfig.model_validate({**ranking, "exclude": self.exclude, **asked})

    def at_step(self, progress: Callable[[float], float]) -> Self:
        """Return the settings for one step: `progress` maps the final share to remove to the share so far."""
        if self.thresholds:
            raise ValueError("thresholds can't be reached in steps: give ratio, layers or a target")
        if self.layers:
            return self.model_copy(update={"layers": {name: progress(r) for name, r in self.layers.items()}})
        if self.target is None:
            return self.model_copy(update={"ratio": progress(self.share)})
        name, left = self.target
        if left > 1:
            raise ValueError(f"{name} can be reached in steps as a fraction only, such as 0.5")
        return self.model_copy(update={name: 1 - progress(1 - left)})
