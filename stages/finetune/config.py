"""Define the settings of fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.contracts.stage import StageConfig
from pipeline.records.values import Value

MOMENTUM_OPTIMIZERS = ("sgd", "rmsprop")
LossName = Literal["cross_entropy", "binary_cross_entropy", "mse", "mae", "huber"]


class Plateau(Value):
    """Apply ReduceLROnPlateau to the validation loss: multiply the rate by `factor` after `patience` epochs."""

    factor: float = Field(default=0.1, gt=0, lt=1)
    patience: int = Field(default=3, ge=0)
    min_learning_rate: float = Field(default=0.0, ge=0)


class Steps(Value):
    """Multiply the learning rate by `factor` at a fixed interval of epochs."""

    every: int = Field(default=10, ge=1, description="epochs")
    factor: float = Field(default=0.1, gt=0, lt=1)


class Exponential(Value):
    """Let the learning rate decay smoothly, by `factor` per epoch."""

    factor: float = Field(default=0.9, gt=0, lt=1)


class Clip(Value):
    """Clip gradients: all of them together by their norm, or each number by its magnitude."""

    norm: float | None = Field(default=None, gt=0)
    value: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.norm is None) == (self.value is None):
            raise ValueError("give either norm or value")
        return self


class Augment(Value):
    """Change training images at random, differently in each epoch, from the recipe's seed."""

    flip: Literal["horizontal", "vertical", "both"] | None = Field(default=None, description="mirror half of them")
    crop: int = Field(default=0, ge=0, description="pad by so many zero pixels and cut the old size out again")
    shift: float = Field(default=0.0, ge=0, lt=1, description="move by up to this share of the size; edges repeat")


class Features(Value):
    """Match the features of the teacher's layers of the same names, by a linear map if channels differ.

    The loss is the mean square of the difference relative to that of the teacher's features; the map is dropped
    afterwards.
    """

    layers: tuple[str, ...] = Field(min_length=1, description="names or patterns, such as conv3*")
    weight: float = Field(default=1.0, gt=0, description="of the features' loss, relative to the other two")


class Distill(Value):
    """Learn from the unpruned model as well as from the labels (Hinton et al., 2015, arXiv:1503.02531).

    The teacher's loss is the divergence of softened outputs (for regression the loss between outputs); it needs no
    labels, and without labels it is the only loss.
    """

    temperature: float = Field(default=4.0, gt=0, description="by which logits are divided; higher is softer")
    weight: float = Field(default=0.5, gt=0, le=1, description="of the teacher's loss; labels have the rest")
    features: Features | None = None


class Regularize(Value):
    """Shrink whole channels, the weakest most, so that a structured cut after this training loses little.

    A group lasso over all weights of each channel (DepGraph, CVPR 2023, arXiv:2301.12900). Put this training before
    `prune`. The weights of its last epoch are kept.
    """

    groups: float = Field(
        gt=0,
        description="strength: a step takes learning rate × this × 1 (a group's strongest channel) to 16 (its weakest) "
        "of a channel's weights",
    )
    growth: float = Field(default=0.5, ge=0, le=1, description="share of the training in which it rises from 0")
    exclude: tuple[str, ...] = Field(default=(), description="names or patterns of layers whose channels are spared")


class QuantizationAware(Value):
    """Train for int8, with tfmot's fake quantization around all layers that it knows and `exclude` does not name.

    `preserve` keeps what earlier compression gave: weights that are zero, or that share few values.
    """

    exclude: tuple[str, ...] = Field(default=(), description="layers that stay in float: names or patterns")
    preserve: Literal["sparsity", "clusters"] | None = None


class FinetuneConfig(StageConfig):
    """Set how to train. The weights of the epoch with the lowest validation loss are kept, or those before training."""

    epochs: int = Field(default=3, ge=1)
    batch: int = Field(default=64, ge=1, description="samples a step; the last step of an epoch takes what is left")
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    momentum: float = Field(default=0.0, ge=0, lt=1, description="of sgd and rmsprop")
    nesterov: bool = Field(default=False, description="Nesterov's momentum, for sgd")
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["constant", "cosine", "step", "exponential", "reduce_on_plateau"] = Field(
        default="reduce_on_plateau", description="cosine falls to 0 over all epochs"
    )
    warmup: float = Field(default=0.0, ge=0, description="epochs in which the learning rate rises to its full size")
    plateau: Plateau = Field(default_factory=Plateau)
    step: Steps = Field(default_factory=Steps)
    exponential: Exponential = Field(default_factory=Exponential)
    early_stopping: int | None = Field(default=5, ge=1, description="epochs without a better validation loss")
    loss: LossName | dict[str, LossName] | None = Field(
        default=None,
        description="default: cross_entropy for classes, binary for several labels, mse for regression; "
        "by output name for several outputs",
    )
    loss_weights: dict[str, Annotated[float, Field(ge=0)]] | None = Field(
        default=None, description="how much each of several outputs counts, by name (others: 1)"
    )
    class_weights: Literal["balanced"] | dict[int, float] | None = Field(
        default=None, description="how much a sample of each class counts (others: 1), or all classes alike"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="the share of each label given to all classes")
    mixup: float | None = Field(
        default=None, gt=0, description="alpha of mixup (arXiv:1710.09412): blends of two samples; 0.2 is usual"
    )
    augment: Augment = Field(default_factory=Augment)
    weight_decay: float | None = Field(
        default=None, ge=0, description="decoupled; of kernels only. Default: 0.004 for adamw, else none"
    )
    clip: Clip | None = None
    freeze: tuple[str, ...] = Field(default=(), description="layers that stay as they are: names or patterns")
    freeze_batch_norm: bool = Field(default=False, description="keep batch normalization's statistics and scales")
    mixed_precision: bool = Field(
        default=False, description="compute in 16 bits (bfloat16 on a CPU); the stored model stays float32"
    )
    strategy: Literal["mirrored"] | None = Field(
        default=None, description="mirrored: a copy of the model on each GPU, the batch shared among them"
    )
    distill: Distill | None = Field(default=None, description="take the unpruned model as a teacher")
    regularize: Regularize | None = Field(default=None, description="shrink channels that a later `prune` will take")
    quantization_aware: QuantizationAware | None = Field(
        default=None, description="train for int8; `qat` under quantize does it for one scheme"
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.momentum and self.optimizer not in MOMENTUM_OPTIMIZERS:
            raise ValueError(f"momentum is of {' and '.join(MOMENTUM_OPTIMIZERS)}, the optimizer is {self.optimizer}")
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise ValueError("nesterov needs the optimizer sgd and a momentum")
        if self.warmup and self.schedule == "reduce_on_plateau":
            raise ValueError(
                "warmup needs another schedule than reduce_on_plateau: cosine, step, exponential, constant"
            )
        if self.warmup >= self.epochs:
            raise ValueError(f"a warmup of {self.warmup:g} epochs leaves nothing of {self.epochs}")
        if self.quantization_aware and (self.mixed_precision or self.strategy):
            raise ValueError("quantization_aware trains in float32 on one device: leave mixed_precision, strategy out")
        if self.regularize and self.strategy:
            raise ValueError("regularize changes weights between steps, on one device: leave strategy out")
        if self.regularize and self.quantization_aware:
            raise ValueError("regularize prepares a cut, which can't follow quantization_aware: use one of them")
        if isinstance(self.class_weights, dict):
            wrong = [label for label, weight in self.class_weights.items() if label < 0 or weight < 0]
            if wrong:
                raise ValueError(f"class_weights: classes and weights are not negative, class {wrong[0]} is wrong")
        return self
