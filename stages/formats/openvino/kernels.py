"""Read from OpenVINO's counters what it spends on each kernel of a model, and which operators a kernel computes.

The counters give whole microseconds, truncated, averaged over all calls since the model was compiled. The first call,
which generates kernels, is subtracted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import DeviceError
from stages.formats.apart.main import Speaker
from stages.formats.format import Kernel
from stages.formats.openvino.ir import graph_of, operators_of, reads_in
from stages.formats.openvino.opener import DEVICE, compile_options, sizes_of
from stages.formats.openvino.session import import_openvino, said
from stages.formats.session import random_feeds

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from openvino import CompiledModel, InferRequest

# Of one compilation alone, one interruption made a kernel look twelve times as expensive.
WARMUP, CALLS, COMPILATIONS = 5, 25, 5
NO_KERNELS = frozenset({"Parameter", "Result", "Constant"})
FUSED = "undef"  # the execution type of what another kernel computes


def kernels_of(model: Path, name: str, shapes: Mapping[str, Sequence[int]] | None = None) -> list[Kernel]:
    """Return all kernels of a model in execution order: nanoseconds on one thread, the mean of 25 warm calls.

    The counters do not tell single calls apart, so the least of five compilations is taken: interruptions only add to
    a cost. `shapes`, by input name ("" for any) and with the batch, are for inputs with free sizes. DeviceError if
    OpenVINO refuses the file, NativeEndError if it crashes.
    """
    from stages.formats.apart.process import call_child

    sizes = {key: list(shape) for key, shape in (shapes or {}).items()}
    arguments = {"model": str(model.absolute()), "name": name, "shapes": sizes}
    return [Kernel(*row) for row in call_child(f"{__name__}:kernels_here", arguments, f"profiling {name}", where=name)]


def kernels_here(_: Speaker, model: str, name: str, shapes: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Return operator, name and cost of each kernel; runs in the child."""
    try:
        rounds = [_costs(model, shapes) for _ in range(COMPILATIONS)]
    except Exception as error:  # it raises RuntimeError, and pybind11 what it likes
        raise DeviceError(f"OpenVINO can't run the file: {said(error)}", where=name) from error
    return [(*key, min(each.get(key, 0.0) for each in rounds)) for key in rounds[0]]


def _costs(model: str, shapes: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Compile the model and return nanoseconds of one call by operator and name, in execution order."""
    core = import_openvino().Core()
    read = core.read_model(model)
    ports = [(port.any_name, sizes_of(port.partial_shape), port.element_type.to_dtype()) for port in read.inputs]
    feeds = list(random_feeds(ports, shapes).values())
    # At fixed sizes, as the runner compiles it on devices.
    read.reshape({index: list(array.shape) for index, array in enumerate(feeds)})
    request = core.compile_model(read, DEVICE, {**compile_options(1), "PERF_COUNT": "YES"}).create_infer_request()
    before = _sums(request, feeds, WARMUP, WARMUP)
    after = _sums(request, feeds, CALLS, WARMUP + CALLS)
    # The counters are averages in whole microseconds, so that a difference of sums can come out below zero.
    return {key: max(0.0, 1e3 * (total - before[key]) / CALLS) for key, total in after.items()}


def _sums(request: InferRequest, feeds: Sequence[NDArray[Any]], more: int, calls: int) -> dict[tuple[str, str], float]:
    """Make `more` calls; returns microseconds of all `calls` so far by kernel."""
    for _ in range(more):
        request.infer(dict(enumerate(feeds)))
    return {
        (counter.node_type, counter.node_name): calls * counter.real_time.total_seconds() * 1e6
        for counter in request.get_profiling_info()
        if counter.node_type not in NO_KERNELS and counter.exec_type != FUSED
    }


def operators_by_kernel(kernels: Iterable[Kernel], model: Path) -> dict[str, list[int]]:
    """Return for each kernel's name the places of the operators that it computes; none for kernels that OpenVINO added.

    Operators that no kernel names are part of the kernel that reads them: casts of weights, or a MatMul whose kernel is
    named after the Add that follows.
    """
    from stages.formats.apart.process import call_child

    arguments = {"model": str(model.absolute())}
    held = call_child(f"{__name__}:fused_here", arguments, f"kernels of {model.name}", where=model.name)
    root = graph_of(model)
    places = {str(layer.get("name")): index for index, layer in enumerate(operators_of(root))}
    named = {kernel.name: [name.strip() for name in held.get(kernel.name, "").split(",")] for kernel in kernels}
    holder = {places[name]: kernel for kernel, names in named.items() for name in names if name in places}
    reads = reads_in(root)
    # Backwards, so that a chain of unnamed operators reaches the kernel that reads the last of them.
    for index in reversed(range(len(reads))):
        for source in reads[index]:
            if index in holder:
                holder.setdefault(source, holder[index])
    return {kernel: sorted(index for index, name in holder.items() if name == kernel) for kernel in named}


def fused_here(_: Speaker, model: str) -> dict[str, str]:
    """Return the names of the operators in each kernel, by the kernel's name; runs in the child."""
    from stages.formats.openvino.session import compiled_for_samples

    try:
        read = import_openvino().Core().read_model(model)
        return dict(_fused(compiled_for_samples(read, 1)))
    except Exception as error:  # as above
        raise DeviceError(f"OpenVINO can't load the file: {said(error)}", where=Path(model).name) from error


def _fused(compiled: CompiledModel) -> Iterator[tuple[str, str]]:
    for node in compiled.get_runtime_model().get_ordered_ops():
        held = node.get_rt_info()
        yield node.get_friendly_name(), str(held["originalLayersNames"].value) if "originalLayersNames" in held else ""
