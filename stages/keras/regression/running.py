"""Run a network in pieces, batch by batch: from tensors that were kept on disk to those that are asked for.

So a walk that stops at each layer runs every layer about once for each sample, with memory for one batch.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from stages.keras.graph import SingleSource, nodes_in_order
from stages.keras.regression.fronts import DISK_BYTES, MEMORY_BYTES, Front, Tensors
from stages.keras.regression.steps import GraphCall, Step, front_of
from stages.keras.tensorflow import import_tensorflow
from stages.keras.types import KerasModel, TfTensor

WORTH_A_GRAPH = 6  # batches: TensorFlow takes about that long to make a graph as the graph saves

Hear = Callable[[int, TfTensor, TfTensor], None]


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Hold the calls of a model's graph, in the order in which Keras runs them."""

    model: KerasModel
    nodes: tuple[Any, ...]
    calls: tuple[GraphCall, ...]
    names: tuple[str, ...]  # of the calls, the same in a network of equal graph: `conv`, `conv/1` for its second call

    @classmethod
    def of(cls, model: KerasModel) -> Network:
        """Return the network of a model with a graph, and no models nested in it."""
        nodes = tuple(node for node in nodes_in_order(model) if not node.is_input)
        calls = [
            GraphCall(node.layer.name, tuple(map(str, node.flat_input_ids)), tuple(map(str, node.flat_output_ids)))
            for node in nodes
        ]
        seen: Counter[str] = Counter()
        names = []
        for call in calls:
            names.append(f"{call.layer}/{seen[call.layer]}" if seen[call.layer] else call.layer)
            seen[call.layer] += 1
        return cls(model, nodes, tuple(calls), tuple(names))

    @property
    def given(self) -> tuple[str, ...]:
        """Return the keys of the model's inputs."""
        return tuple(str(id(tensor)) for tensor in self.model.inputs)

    def start(self, arrays: Sequence[NDArray[Any]]) -> Tensors:
        """Return the tensors that the network begins with, in the types and shapes that it takes."""
        tensors = map(import_tensorflow().convert_to_tensor, arrays)
        conform = self.model._conform_to_reference_input  # noqa: SLF001 - as Keras does when the model is called
        return {
            key: conform(tensor, ref_input=own)
            for key, own, tensor in zip(self.given, self.model.inputs, tensors, strict=True)
        }

    def run(self, places: Sequence[int], tensors: Tensors, kept: Sequence[str] = (), hear: Hear | None = None) -> None:
        """Run the calls at `places` (ascending) at inference, on and into `tensors`.

        Tensors that none of them reads later are dropped, except those that `kept` names. `hear` gets the place, the
        first input and the first output of each call.
        """
        left = Counter([*kept, *(key for place in places for key in self.calls[place].reads)])
        for place in places:
            call, node = self.calls[place], self.nodes[place]
            arguments = {key: SingleSource(tensors[key]) for key in call.reads}
            args, kwargs = node.map_arguments(arguments)
            if node.layer._expects_training_arg and kwargs.get("training") is None:  # noqa: SLF001 - Keras' own way to know
                kwargs = {**kwargs, "training": False}
            outputs = import_tensorflow().nest.flatten(node.layer(*args, **kwargs))
            if hear is not None:
                hear(place, tensors[call.reads[0]], outputs[0])
            tensors |= {key: value for key, value in zip(call.makes, outputs, strict=True) if left[key]}
            for key in call.reads:
                left[key] -= 1
                if not left[key]:
                    tensors.pop(key, None)

    def runner(self, places: Sequence[int], kept: Sequence[str], batches: int) -> Callable[[Tensors], Tensors]:
        """Return a function that runs the calls at `places` for the tensors that `kept` names, on those that it gets.

        For so many batches it is a graph, in which TensorFlow joins operations, where nothing is lost by that.
        """
        graphs: list[Callable[[Tensors], Tensors]] = []

        def run(tensors: Tensors) -> Tensors:
            tensors = dict(tensors)
            self.run(places, tensors, kept)
            return {key: tensors[key] for key in kept}

        def run_as_graph(tensors: Tensors) -> Tensors:
            if not graphs:
                graphs.append(self._graph(run, tensors) or run)
            return graphs[0](tensors)

        return run_as_graph if places and batches >= WORTH_A_GRAPH else run

    def _graph(self, run: Callable[[Tensors], Tensors], tensors: Tensors) -> Callable[[Tensors], Tensors] | None:
        """Return `run` as a graph for tensors like these, of any number of samples; None if something were lost.

        At its borders a graph knows shapes and no values, which layers may need of a vector that is a shape; and Keras
        attaches masks to tensors, which a graph does not carry across its borders.
        """
        tf = import_tensorflow()

        def plain(tensor: TfTensor) -> bool:
            return isinstance(tensor, tf.Tensor) and tensor.shape.rank > 1 and not hasattr(tensor, "_keras_mask")

        def watched(given: Tensors) -> Tensors:
            made = run(given)
            lost.extend(key for key, tensor in made.items() if not plain(tensor))
            return made

        lost = [key for key, tensor in tensors.items() if not plain(tensor)]
        if lost or self.model.dynamic:
            return None
        # A first batch of one sample means that all are so; and of a constant one is enough.
        counts = {key: 1 if tensor.shape[0] == 1 else None for key, tensor in tensors.items()}
        specs = {key: tf.TensorSpec([counts[key], *own.shape[1:]], own.dtype) for key, own in tensors.items()}
        graph: Callable[[Tensors], Tensors] = tf.function(watched, autograph=False).get_concrete_function(specs)
        return None if lost else graph


@dataclass(slots=True)
class Walk:
    """Go through a network step by step; `read` gives the inputs of each of `batches` by its number.

    What a step leaves for later ones is kept in memory and `folder`: of up to `disk` bytes.
    """

    network: Network
    batches: int
    read: Callable[[int], list[NDArray[Any]]]
    folder: Path
    disk: float = DISK_BYTES
    memory: float = MEMORY_BYTES
    _final: frozenset[int] = field(default_factory=frozenset)  # the calls that need not run again
    _front: Front | None = None  # what others read of them; None: the network's inputs

    def inputs_at(self, step: Step) -> Iterator[tuple[int, dict[int, TfTensor]]]:
        """Yield for each batch its number and the input of each call that the step reads.

        Then the walk stands there: what comes later is computed with the weights that the layers have by then.
        """
        network = self.network
        places = sorted((step.final - self._final) | step.drafts)
        front = front_of(network.calls, step.final, network.given)
        read = {place: network.calls[place].reads[0] for place in step.reads}
        run = network.runner(places, list(dict.fromkeys([*front, *read.values()])), self.batches)
        ahead = None if step.final == self._final else self._new_front(len(step.final))
        for batch in range(self.batches):
            tensors = run(self._tensors(batch))
            yield batch, {place: tensors[key] for place, key in read.items()}
            if ahead is not None and not ahead.add({key: tensors[key] for key in front}):
                ahead = None
        if ahead is not None:
            self.close()
            self._final, self._front = step.final, ahead

    def close(self) -> None:
        """Delete what was kept."""
        if self._front is not None:
            self._front.close()
            self._front = None

    def _new_front(self, number: int) -> Front:
        self.folder.mkdir(parents=True, exist_ok=True)
        disk = min(self.disk, shutil.disk_usage(self.folder).free // 2)
        return Front(self.folder / f"front-{number}", self.batches, disk, self.memory)

    def _tensors(self, batch: int) -> Tensors:
        return self.network.start(self.read(batch)) if self._front is None else self._front.read(batch)
