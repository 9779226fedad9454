"""Give int8 convolutions of few input channels a shape that kernels compute with less padding; no number changes.

XNNPACK's int8 kernels take input channels in groups of 8, so that of a gray image seven numbers in eight are padding,
and of three colors five. Two rewrites help. In both every sum gets the same products as before, and zeros:

- **fold**: pixels of a row are contiguous, so a RESHAPE makes as many as a stride has into channels of one. (Vela does
  this for NPUs.)
- **gather**: a convolution whose filters hold a single 1 makes the pixels that a window reads in a row into channels,
  a block of pixels at a time. The convolution itself then has a kernel of width 1, with the same bytes.

Which one, and whether, follows from the steps of XNNPACK's kernels without dot products, about 25 instructions each on
a Cortex-A72. Counted in LiteRT 2.3.0, a whole file's instructions relative to before (x86 with VNNI: latency), and to
float32 on the Cortex-A72:

| network | first convolution | A53 | A72 | A76 | x86 | of float32, A72 |
|---|---|---|---|---|---|---|
| demo | 3×3×1, stride 1: gather | 1.004 | 0.936 | 0.951 | 0.86 | 1.056 → 0.988 |
| keyword spotting | 10×4×1, stride 2: gather | 0.928 | 0.616 | 0.777 | 0.78 | 1.378 → 0.849 |
| visual wake words | 3×3×3, stride 2: fold | 1.014 | 0.953 | 0.994 | 0.93 | 1.007 → 0.959 |

Float32 takes 1.3 times as much and more on the Cortex-A53. On an Ethos-U55 Vela estimates 1.003, 0.826 and 1.004 of
the cycles; TensorFlow Lite Micro needs up to 0.7 kB more.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import Conv2DOptionsT, ModelT, OperatorT, SubGraphT, TensorT
    from numpy.typing import NDArray

GATHER_KERNEL = "gather_kernel"  # the tensor's name: no weights of the network are in it
GROUP = 8  # channels, and filters, that a kernel takes at a time
MOST = 0.8  # of a convolution's steps, above which it stays
LEAST_SAVED = 500  # steps: an operator more takes a thousand instructions and more
ENDS = 2  # steps in which a kernel begins and ends a pixel


@dataclass(frozen=True, slots=True)
class Window:
    """Describe windows along the rows of an image: sizes in pixels, and whether the padding is SAME or VALID."""

    width: int
    out: int
    size: int
    stride: int
    same: bool

    @property
    def before(self) -> int:
        """Return how many pixels of padding the first window reads."""
        missing = (self.out - 1) * self.stride + self.size - self.width
        return max(0, missing) // 2 if self.same else 0

    def blocks(self, block: int) -> tuple[int, int]:
        """Return how many blocks the windows that begin in a block of pixels read: of those before it, and in all.

        As many as a convolution over blocks with stride 1 needs for the same kind of padding.
        """
        last = (block - self.stride - self.before + self.size - 1) // block
        if not self.same:
            return 0, last + 1
        beyond = self.width // block - 1  # blocks further away are never in the image
        first, last = max(-self.before // block, -beyond), min(last, beyond)
        left = max(-first, last - 1)
        return left, left + max(left, last) + 1

    def pixel(self, block: int, begin: int, tap: int) -> int | None:
        """Return which of the pixels in `blocks` is the one at `tap` of the window number `begin` of a block.

        None if it is always in the padding, of an image that is narrower than a window.
        """
        left, taps = self.blocks(block)
        place = left * block - self.before + begin * self.stride + tap
        return place if 0 <= place < taps * block else None

    def block_sizes(self) -> list[int]:
        """Return the sizes of blocks which a row and its windows are whole numbers of."""
        most = self.width if self.same else self.stride
        return [size for size in range(self.stride, most + 1, self.stride) if self.width % size == 0]


@dataclass(frozen=True, slots=True)
class Convolution:
    """Describe a convolution by its sizes: rows read and made, filters, rows of a kernel, windows, input channels."""

    rows: int
    rows_out: int
    filters: int
    kernel_rows: int
    window: Window
    channels: int

    def steps(self) -> int:
        return _steps(self.rows_out * self.window.out, self.filters, self.kernel_rows * self.window.size, self.channels)

    def steps_folded(self) -> int | None:
        """Return the steps after `fold`; None if there is nothing to fold."""
        stride = self.window.stride
        if stride == 1 or stride not in self.window.block_sizes():
            return None
        taps = self.kernel_rows * self.window.blocks(stride)[1]
        return _steps(self.rows_out * self.window.out, self.filters, taps, stride * self.channels)

    def steps_gathered(self, block: int) -> int:
        """Return the steps of both convolutions after `gather` in blocks of pixels."""
        window, wide = self.window, self.window.size * self.channels
        windows = block // window.stride
        first = _steps(
            self.rows * window.out // windows, windows * wide, window.blocks(block)[1], block * self.channels
        )
        return first + _steps(self.rows_out * window.out, self.filters, self.kernel_rows, wide)

    def cheapest(self) -> tuple[Literal["fold", "gather"], int] | None:
        """Return the rewrite that takes the fewest steps, and its block of pixels; None if none saves enough."""
        found: list[tuple[int, Literal["fold", "gather"], int]] = []
        folded = self.steps_folded()
        if folded is not None:
            found.append((folded, "fold", self.window.stride))
        if self.window.size > 1:
            found += [(self.steps_gathered(block), "gather", block) for block in self.window.block_sizes()]
        steps, how, block = min(found, default=(self.steps(), "fold", 0))
        return (how, block) if steps <= min(MOST * self.steps(), self.steps() - LEAST_SAVED) else None


def _steps(pixels: int, filters: int, taps: int, channels: int) -> int:
    """Return how often a kernel multiplies a group of channels with a group of filters, with the ends of each pixel."""
    return pixels * -(-filters // GROUP) * (taps * -(-channels // GROUP) + ENDS)


def with_more_channels(data: bytes) -> bytes:
    """Return a TFLite file in which convolutions with few channels are cheaper; `data` itself if there are none."""
    from ai_edge_litert import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    changed = False
    for graph in model.subgraphs:
        rewriting = _Rewriting(schema, model, graph)
        for operator in list(graph.operators):
            convolution = rewriting.convolution_of(operator)
            how = convolution.cheapest() if convolution else None
            if convolution and how:
                rewriting.rewrite(operator, convolution.window, *how)
                changed = True
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model)) if changed else data


class _Rewriting:
    """Rewrite the operators of one graph of a file in place."""

    def __init__(self, schema: ModuleType, model: ModelT, graph: SubGraphT) -> None:
        self._schema, self._model, self._graph = schema, model, graph
        self._kinds = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]

    def convolution_of(self, operator: OperatorT) -> Convolution | None:
        """Describe an operator; None if it is no int8 convolution that has its kernel to itself."""
        if self._kinds[operator.opcodeIndex] != self._schema.BuiltinOperator.CONV_2D:
            return None
        image, kernel, made = (self._graph.tensors[place] for place in (*operator.inputs[:2], operator.outputs[0]))
        options, integer = operator.builtinOptions, self._schema.TensorType.INT8
        plain = all(tensor.type == integer and list(tensor.shape)[:1] != [0] for tensor in (image, kernel, made))
        undilated = options.dilationWFactor == options.dilationHFactor == 1
        if not (plain and undilated and image.shape[0] == 1 and self._is_alone(operator.inputs[1])):
            return None
        _, rows, width, channels = map(int, image.shape)
        filters, kernel_rows, size, grouped = map(int, kernel.shape)
        if grouped != channels:
            return None
        same = options.padding == self._schema.Padding.SAME
        window = Window(width, int(made.shape[2]), size, options.strideW, same)
        return Convolution(rows, int(made.shape[1]), filters, kernel_rows, window, channels)

    def rewrite(self, operator: OperatorT, window: Window, how: Literal["fold", "gather"], block: int) -> None:
        """Rewrite a convolution, and add what has to come before it."""
        options: Conv2DOptionsT = operator.builtinOptions
        kernel = self._graph.tensors[operator.inputs[1]]
        filters, kernel_rows, size, channels = map(int, kernel.shape)
        before = [self._blocks(operator, block)] if block > 1 else []
        source = before[-1].outputs[0] if before else operator.inputs[0]
        if how == "fold":
            self._fold(kernel, window, block)
        else:
            before.append(self._gather(operator, source, window, block, channels))
            source = before[-1].outputs[0]
            if block > window.stride:
                rows = self._graph.tensors[source].shape[1]
                before.append(self._reshape(operator, source, "windows", [1, rows, window.out, size * channels]))
                source = before[-1].outputs[0]
            kernel.shape = [filters, kernel_rows, 1, size * channels]
        options.strideW = 1
        operator.inputs[0] = source
        place = self._graph.operators.index(operator)
        self._graph.operators[place:place] = before

    def _blocks(self, operator: OperatorT, block: int) -> OperatorT:
        """Return a RESHAPE of the convolution's input that makes each block of pixels one with more channels."""
        _, rows, width, channels = map(int, self._graph.tensors[operator.inputs[0]].shape)
        return self._reshape(operator, operator.inputs[0], "blocks", [1, rows, width // block, block * channels])

    def _fold(self, kernel: TensorT, window: Window, block: int) -> None:
        """Put the kernel's pixels where they are in blocks, zeros between them."""
        import numpy as np

        filters, kernel_rows, size, channels = map(int, kernel.shape)
        _, taps = window.blocks(block)
        buffer = self._model.buffers[kernel.buffer]
        given = np.asarray(buffer.data, np.uint8).view(np.int8).reshape(kernel.shape)
        values = np.zeros((filters, kernel_rows, taps * block, channels), np.int8)
        for tap in range(size):
            pixel = window.pixel(block, 0, tap)
            if pixel is not None:
                values[:, :, pixel] = given[:, :, tap]
        kernel.shape = [filters, kernel_rows, taps, block * channels]
        buffer.data = values.view(np.uint8).ravel()

    def _gather(self, operator: OperatorT, source: int, window: Window, block: int, channels: int) -> OperatorT:
        """Return the convolution that makes the pixels of a window's row into channels."""
        import numpy as np

        _, taps = window.blocks(block)
        windows = block // window.stride
        ones = np.zeros((windows, window.size, channels, taps * block, channels), np.int8)
        for begin in range(windows):
            for tap in range(window.size):
                pixel = window.pixel(block, begin, tap)
                if pixel is not None:
                    ones[begin, tap, :, pixel] = np.eye(channels, dtype=np.int8)
        filters = windows * window.size * channels
        image = self._graph.tensors[operator.inputs[0]]
        scale = float(image.quantization.scale[0])
        # A file with one scale a tensor may be for a runtime that knows no others.
        scales = filters if len(self._graph.tensors[operator.inputs[1]].quantization.scale) > 1 else 1
        kernel = self._constant(GATHER_KERNEL, ones.reshape(filters, 1, taps, block * channels), [1.0] * scales)
        bias = self._constant("gather_bias", np.zeros(filters, np.int32), [scale] * scales)
        gather = copy.deepcopy(operator)
        gather.builtinOptions.strideH = gather.builtinOptions.strideW = 1
        gather.builtinOptions.fusedActivationFunction = self._schema.ActivationFunctionType.NONE
        made = self._like(operator, "gather", [1, image.shape[1], window.out // windows, filters])
        gather.inputs, gather.outputs = [source, kernel, bias], [made]
        return gather

    def _reshape(self, operator: OperatorT, source: int, what: str, shape: list[int]) -> OperatorT:
        import numpy as np

        reshape, options = self._schema.OperatorT(), self._schema.ReshapeOptionsT()
        options.newShape = shape
        reshape.opcodeIndex = self._code_of_reshape()
        reshape.builtinOptionsType = self._schema.BuiltinOptions.ReshapeOptions
        reshape.builtinOptions = options
        reshape.inputs = [source, self._constant(f"{what}_shape", np.asarray(shape, np.int32))]
        reshape.outputs = [self._like(operator, what, shape)]
        return reshape

    def _like(self, operator: OperatorT, what: str, shape: list[int]) -> int:
        """Return a new tensor with the scale of the convolution's input, named after its layers."""
        tensor = copy.deepcopy(self._graph.tensors[operator.inputs[0]])
        tensor.name = f"{what};".encode() + self._graph.tensors[operator.outputs[0]].name
        tensor.shape, tensor.shapeSignature, tensor.buffer = shape, None, 0
        return self._add(tensor)

    def _constant(self, name: str, values: NDArray[Any], scales: list[float] | None = None) -> int:
        import numpy as np

        buffer, tensor = self._schema.BufferT(), self._schema.TensorT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        tensor.name, tensor.shape, tensor.buffer = name.encode(), list(values.shape), len(self._model.buffers)
        tensor.type = self._schema.TensorType.INT8 if values.dtype == np.int8 else self._schema.TensorType.INT32
        if scales is not None:
            tensor.quantization = self._schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = scales, [0] * len(scales)
        self._model.buffers.append(buffer)
        return self._add(tensor)

    def _add(self, tensor: TensorT) -> int:
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _is_alone(self, place: int) -> bool:
        """Return whether one operator reads a constant, and no other tensor has its bytes."""
        buffer = self._graph.tensors[place].buffer
        tensors = [tensor for graph in self._model.subgraphs for tensor in graph.tensors if tensor.buffer == buffer]
        readers = [operator for operator in self._graph.operators if place in list(operator.inputs)]
        return bool(self._model.buffers[buffer].data is not None) and len(tensors) == len(readers) == 1

    def _code_of_reshape(self) -> int:
        """Return the place of RESHAPE among the operator codes, added if there is none."""
        kind = self._schema.BuiltinOperator.RESHAPE
        if kind not in self._kinds:
            code = self._schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = kind
            code.version = 1
            self._model.operatorCodes.append(code)
            self._kinds.append(kind)
        return self._kinds.index(kind)
