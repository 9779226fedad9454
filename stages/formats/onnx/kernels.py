"""Profile the kernels of a file with ONNX Runtime's own profiler, and find their nodes in the file.

Its optimizer fuses nodes into one kernel, and names it after one of them (`Conv_3_token_12`) or after the output tensor
of the last (`Relu_3_out_nchwc`).
"""

from __future__ import annotations

import json
import os
import re
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import DeviceError
from stages.formats.apart.main import Speaker
from stages.formats.format import Kernel
from stages.formats.onnx.session import ONNX_TYPES
from stages.formats.session import random_feeds
from stages.keras.tensorflow import ENVIRONMENT

if TYPE_CHECKING:
    from onnx import NodeProto
    from onnxruntime import InferenceSession

WARMUP, CALLS = 5, 50
ADDED = re.compile(r"(_nchwc|_nhwc|_token_\d+|/duplicated)$")  # suffixes that the optimizer adds to names
VARIANT = re.compile(r"^(QLinear|Nhwc|Fused)")  # prefixes of an operator


def kernels_of(model: Path, name: str, shapes: Mapping[str, Sequence[int]] | None = None) -> list[Kernel]:
    """Return all kernels of a file in execution order, one thread: nanoseconds, the median of 50 warm calls.

    `shapes`, by input name ("" for any) and with the batch, are for inputs with free sizes. DeviceError if ONNX Runtime
    refuses the file, NativeEndError if the file crashes it.
    """
    from stages.formats.apart.process import call_child

    sizes = {key: list(shape) for key, shape in (shapes or {}).items()}
    arguments = {"model": str(model.absolute()), "name": name, "shapes": sizes}
    return [Kernel(*row) for row in call_child(f"{__name__}:kernels_here", arguments, f"profiling {name}", where=name)]


def kernels_here(_: Speaker, model: str, name: str, shapes: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Return, in the child, operator, name and cost of each kernel."""
    os.environ.update(ENVIRONMENT)  # ONNX Runtime starts telemetry unless told otherwise before its import
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level, options.enable_profiling = 1, 4, True
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            feeds = random_feeds(_ports(session), shapes)
            for _call in range(WARMUP + CALLS):
                session.run(None, feeds)
            events = json.loads(Path(session.end_profiling()).read_bytes())
        except Exception as error:  # its errors have no common base but Exception
            raise DeviceError(f"ONNX Runtime can't run the file: {error}", where=name) from error
    times: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = (event["args"]["op_name"], event["name"].removesuffix("_kernel_time"))
            times.setdefault(key, []).append(1e3 * event["dur"])
    # The median, since one call that is preempted can be half of a network's time.
    # The profile holds the warm-up calls, too.
    return [(*key, statistics.median(taken[WARMUP:])) for key, taken in times.items()]


def nodes_of(kernels: Iterable[Kernel], nodes: list[NodeProto]) -> dict[str, list[int]]:
    """Map each kernel's name to the places of its nodes; kernels that the optimizer inserted have none."""
    by_name = {node.name: index for index, node in enumerate(nodes)}
    maker = {output: index for index, node in enumerate(nodes) for output in node.output if output}
    by_kernel, taken = dict[str, list[int]](), set[int]()
    for kernel in kernels:
        name = kernel.name
        while ADDED.search(name):
            name = ADDED.sub("", name)
        last = by_name.get(name, maker.get(name))
        by_kernel[kernel.name] = [] if last is None else list(_up_to(kernel.operator, last, nodes, maker))
        taken.update(by_kernel[kernel.name])
    holder = {index: name for name, places in by_kernel.items() for index in places}
    for index, node in enumerate(nodes):  # the others went into the kernel that makes what they read
        sources = [maker[name] for name in node.input if maker.get(name) in holder]
        if index not in taken and sources:
            # The last of them in the file's order: it is the one at which all inputs of the node exist.
            holder[index] = holder[max(sources)]
            by_kernel[holder[index]].append(index)
    return {name: sorted(places) for name, places in by_kernel.items()}


def _up_to(operator: str, last: int, nodes: list[NodeProto], maker: Mapping[str, int]) -> Iterator[int]:
    """Yield the nodes of a kernel that is named after its last one, back to its main operator."""
    wanted, index = VARIANT.sub("", operator), last
    passed = [index]
    while nodes[index].op_type != wanted and nodes[index].input and nodes[index].input[0] in maker:
        index = maker[nodes[index].input[0]]
        passed.append(index)
    yield from passed if nodes[index].op_type == wanted else [last]


def _ports(session: InferenceSession) -> Iterator[tuple[str, list[int | None], str]]:
    for item in session.get_inputs():
        sizes = [size if isinstance(size, int) and size > 0 else None for size in item.shape]
        yield item.name, sizes, ONNX_TYPES.get(item.type, item.type[len("tensor(") : -1])
