"""Guess from the model alone what it was made for: its task, its inputs and how they are preprocessed.

Nothing here is certain, so each guess states its evidence, for a person to check.
"""

from __future__ import annotations

from typing import Literal

from pipeline.data.samples import Preprocess
from pipeline.records.artifacts import TensorSpec
from pipeline.records.values import Value
from stages.commands.starting.first_pruning import FirstPruning, first_pruning
from stages.keras.flatten import flattened
from stages.keras.losses import gives_logits
from stages.keras.normal_form import tensor_spec
from stages.keras.types import KerasLayer, KerasModel, KerasTensor
from stages.keras.wrappers import QUANTIZATION, wrappers_in
from stages.prune.inspection import inspect_model

Task = Literal["classes", "binary", "multilabel", "regression", "other"]
Mode = Literal["tf", "caffe", "torch"]

# Families of tf_keras.applications by the names of layers, which stay when the top is replaced or channels are pruned,
# and the mode of their `preprocess_input`. ResNet's names are a subset of ResNetV2's, so ResNetV2 comes first.
FAMILIES: tuple[tuple[str, Mode, frozenset[str]], ...] = (
    ("Xception", "tf", frozenset({"block14_sepconv2"})),
    ("MobileNet", "tf", frozenset({"conv_dw_13", "conv_pw_13"})),
    ("MobileNetV2", "tf", frozenset({"block_16_project", "Conv_1"})),
    ("InceptionV3", "tf", frozenset({"mixed10"})),
    ("InceptionResNetV2", "tf", frozenset({"mixed_6a", "conv_7b"})),
    ("NASNet", "tf", frozenset({"stem_conv1", "stem_bn1"})),
    ("ResNetV2", "tf", frozenset({"conv2_block1_preact_bn", "post_bn"})),
    ("ResNet", "caffe", frozenset({"conv1_conv", "conv2_block1_out"})),
    ("DenseNet", "torch", frozenset({"conv2_block1_concat", "pool2_pool"})),
    ("VGG", "caffe", frozenset({"block5_conv3", "block5_pool"})),
)
PREPROCESSING = frozenset({"Rescaling", "Normalization"})
COLOR_CHANNELS = (1, 3)


class Preprocessing(Value):
    """Describe how to prepare inputs: not at all, by a mode of Keras, or by a scale; with the evidence."""

    mode: Mode | None = None
    scale: float | None = None
    offset: float = 0.0
    reason: str
    certain: bool

    @classmethod
    def of(cls, way: Preprocess, reason: str, *, certain: bool) -> Preprocessing:
        """Return it from the recipe's form."""
        scaled = way.mode is None and way != Preprocess()
        scale, offset = (way.scale, way.offset) if scaled else (None, 0.0)
        return cls(mode=way.mode, scale=scale, offset=offset, reason=reason, certain=certain)

    @property
    def way(self) -> Preprocess:
        """Return the recipe's form of it."""
        return Preprocess(mode=self.mode) if self.mode else Preprocess(scale=self.scale or 1.0, offset=self.offset)


class OutputGuess(Value):
    """Describe what an output seems to mean, with the evidence. `size` is its length: classes, labels or numbers.

    An output that is not one row per sample has the task `other` and no size: it stays unlabelled.
    """

    name: str
    task: Task
    size: int | None
    reason: str


class ModelGuess(Value):
    """Hold what a recipe needs to know of a model.

    `unsuited` says why it can be neither trained nor evaluated here, if so. `prunable_share` is the share of the MACs
    that structured pruning can reach, `pruning` a feasible goal (None if none is worthwhile), `keeps_zeros` whether
    individual weights were pruned already and are to stay zero, `notes` what loading reported.
    """

    name: str
    params: int
    macs: int
    macs_unknown: tuple[str, ...]
    macs_size: dict[str, tuple[int, ...]] | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[OutputGuess, ...]
    preprocessing: Preprocessing
    prunable_share: float
    groups: int
    prunable_groups: int
    pruning: FirstPruning | None
    unsuited: str | None
    keeps_zeros: bool
    trained_for_int8: bool
    notes: tuple[str, ...]

    @property
    def labelled(self) -> tuple[OutputGuess, ...]:
        """Return the outputs that can be trained and measured."""
        return tuple(output for output in self.outputs if output.size is not None)

    @property
    def sized_inputs(self) -> tuple[TensorSpec, ...]:
        """Return the inputs, with the sizes that are assumed for open ones."""
        known = self.macs_size or {}
        return tuple(
            entry.model_copy(update={"shape": (entry.shape[0], *known[entry.name])}) if entry.name in known else entry
            for entry in self.inputs
        )

    def noting(self, note: str) -> ModelGuess:
        """Return the same with one more note."""
        return self.model_copy(update={"notes": (*self.notes, note)})


def guess(model: KerasModel, source: str, notes: tuple[str, ...] = (), *, keeps_zeros: bool = False) -> ModelGuess:
    """Guess what `model`, a graph of layers, was made for."""
    flat = flattened(model)
    inspection = inspect_model(flat, source)
    inputs = tuple(tensor_spec(tensor, name) for tensor, name in zip(model.inputs, model.input_names, strict=True))
    heads = [_producer(tensor) for tensor in flat.outputs]
    outputs = tuple(_output(model, index, name, heads[index]) for index, name in enumerate(model.output_names))
    free = [group for group in inspection.groups if not group.frozen]
    suited = any(output.size is not None for output in outputs)
    return ModelGuess(
        name=model.name,
        params=inspection.params,
        macs=inspection.macs,
        macs_unknown=inspection.macs_unknown,
        macs_size=inspection.macs_size,
        inputs=inputs,
        outputs=outputs,
        preprocessing=_preprocessing(flat, inputs[0]) if len(inputs) == 1 else _of_several(inputs),
        prunable_share=inspection.prunable_macs_share,
        groups=len(inspection.groups),
        prunable_groups=len(free),
        pruning=first_pruning(flat),
        unsuited=None if suited else outputs[0].reason,
        keeps_zeros=keeps_zeros,
        trained_for_int8=QUANTIZATION in wrappers_in(model).values(),
        notes=notes,
    )


def _output(model: KerasModel, index: int, name: str, head: KerasLayer) -> OutputGuess:
    shape = tuple(model.outputs[index].shape)
    if len(shape) != 2 or shape[1] is None:
        reason = f"its output {name} has the shape {shape}, not one row a sample"
        return OutputGuess(name=name, task="other", size=None, reason=reason)
    task, reason = _task(model, index, head)
    return OutputGuess(name=name, task=task, size=shape[1], reason=reason)


def _task(model: KerasModel, index: int, head: KerasLayer) -> tuple[Task, str]:
    """Guess from the model's outputs: values that add up to 1 are probabilities, wherever the softmax is."""
    size = model.outputs[index].shape[1]
    if not gives_logits(model, index):
        if size == 1:
            return "binary", "one output between 0 and 1"
        return "classes", f"{size} outputs that add up to 1"
    if getattr(getattr(head, "activation", None), "__name__", "") == "sigmoid":
        return "multilabel", f"{size} outputs, each between 0 and 1"
    if size == 1:
        return "regression", "one output without bounds"
    return "classes", f"{size} outputs without bounds: logits, unless they are numbers to predict"


def _preprocessing(model: KerasModel, entry: TensorSpec) -> Preprocessing:
    names = {layer.name for layer in model.layers}
    for layer in _front(model):
        if type(layer).__name__ in PREPROCESSING:
            return Preprocessing(reason=f"the model's own layer {layer.name} does it", certain=True)
    for family, mode, marks in FAMILIES:
        if marks <= names:
            return Preprocessing(mode=mode, reason=f"its layers are called as those of Keras' {family}", certain=False)
    if len(entry.shape) == 4 and entry.shape[-1] in COLOR_CHANNELS and entry.dtype.startswith("float"):
        return Preprocessing(scale=1 / 255, reason="images are mostly scaled from 0…255 to 0…1", certain=False)
    return Preprocessing(reason="nothing tells of any", certain=False)


def _of_several(inputs: tuple[TensorSpec, ...]) -> Preprocessing:
    named = f"preprocess: {{{inputs[0].name}: {{scale: 0.00392}}}}"
    return Preprocessing(reason=f"each input may need its own, such as {named}", certain=False)


def _front(model: KerasModel) -> list[KerasLayer]:
    """Return the layers before the first one with a kernel, in Keras' order."""
    front: list[KerasLayer] = []
    for layer in model.layers:
        if any(len(weight.shape) > 1 for weight in layer.weights) and type(layer).__name__ not in PREPROCESSING:
            break
        front.append(layer)
    return front


def _producer(tensor: KerasTensor) -> KerasLayer:
    return tensor._keras_history.layer  # noqa: SLF001 - Keras' only way from a tensor to its layer
