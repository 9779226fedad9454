"""Run a peer's tests under pytest with our functions instead of the peer's: one process of `peer_suites.py`.

Results are JSON lines: `{"test": …}` when a test begins, and with its `verdict` and `reason` when it has ended.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import reason_of

OPSETS = (13, 18)  # of `export.opset`
FORMATS = ("model.keras", "model.h5", "model")  # the last is a SavedModel
SAME = 1e-5  # relative to the largest output, for what Keras reads back from its own file


class Refused(Exception):
    """Raised if our product said that it does not do this, and why."""


class Unasked(Exception):
    """Raised if the test asks for what this product does not offer."""


def convert_keras(model: Any, name: str | None = None, target_opset: int | None = None, **options: Any) -> Any:
    """Implement tf2onnx's function of this name: the ONNX ModelProto of a Keras model, by way of a file, `load` and
    export.
    """
    import onnx

    from pipeline.errors import SecateurError
    from stages.formats.onnx.convert import convert_onnx
    from stages.load import load_model

    layout = layout_of(model, options.pop("channel_first_inputs", None))
    settings: dict[str, Any] = {}
    if target_opset is not None:
        settings["opset"] = min(max(target_opset, OPSETS[0]), OPSETS[1])
    if any(value is not None for value in options.values()):
        raise Unasked(f"options of tf2onnx's own: {', '.join(options)}")
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        file, lost = saved(model, Path(folder))
        try:
            loaded = load_model(file, trust=True)
            graph = onnx.load_from_string(convert_onnx(loaded.model, "float32", layout=layout, **settings))
        except SecateurError as error:
            raise Refused(error.what.replace(str(file), "FILE")[:300]) from error
    if lost:
        raise Unasked(f"no file of Keras' holds this network: {lost}")
    graph.graph.name = name or model.name
    return graph


def saved(model: Any, folder: Path) -> tuple[Path, str | None]:
    """Save the network in a file of its own Keras, and return what that Keras loses of it.

    Uses the newest format from which Keras itself gets the same network back; else the newest of all.
    """
    written, lost = list[Path](), list[str]()
    for name in FORMATS:
        try:
            model.save(folder / name, **({} if "." in name else {"save_format": "tf"}))
            written.append(folder / name)
            difference = lost_in(model, folder / name)
        except Exception as error:  # noqa: BLE001 - whatever a layer's get_config or from_config raises
            lost.append(reason_of(error))
            continue
        if difference <= SAME:
            return folder / name, None
        lost.append(f"its outputs differ by {difference:.0e}")
    if not written:
        raise Unasked(f"Keras can't save it: {lost[0]}")
    return written[0], lost[0]


def lost_in(model: Any, file: Path) -> float:
    """Return how far the outputs of what plain Keras reads from a file are from the network's, relative to the largest.

    On normal numbers, or if the network can't run on those (indices of a table), on zeros and ones.
    """
    import numpy as np

    from stages.keras.inputs import as_arrays
    from stages.keras.normal_form import random_inputs, relative_difference
    from stages.keras.tensorflow import import_keras

    settings = {"safe_mode": False} if file.suffix == ".keras" else {}
    again = import_keras().models.load_model(file, compile=False, **settings)
    normal = random_inputs(model, samples=2, seed=0)
    for inputs in (normal, [(np.abs(values) > 1).astype(values.dtype) for values in normal]):
        given = inputs if len(inputs) > 1 else inputs[0]
        try:
            before = [np.asarray(each) for each in as_arrays(model(given, training=False))]
            model.reset_states()  # stateful layers start the test with their initial state
        except Exception:  # noqa: BLE001 - whatever its layers raise
            continue
        after = [np.asarray(each) for each in as_arrays(again(given, training=False))]
        if [each.shape for each in before] != [each.shape for each in after]:
            return math.inf
        if not all(each.size for each in before):
            continue
        return relative_difference(*([np.nan_to_num(each) for each in some] for some in (before, after)))
    return 0.0  # nothing to compare with: the test itself will


def layout_of(model: Any, channel_first: Sequence[str] | None) -> Any:
    """Return our layout for the inputs that are to have their channels first: all of rank 4, or none."""
    if not channel_first:
        return "nhwc"
    images = [name for name, tensor in zip(model.input_names, model.inputs, strict=True) if len(tensor.shape) == 4]
    if sorted(channel_first) != sorted(images):
        raise Unasked("channels first in some inputs of rank 4 and last in others: `layout` is that of all")
    return "nchw"


class Surgeon:
    """Implement kerassurgeon's class of this name: deletes channels, by our channel groups and surgery."""

    def __init__(self, model: Any, copy: bool | None = None) -> None:
        del copy  # ours always makes a new model
        self.model, self.gone = model, list[tuple[str, list[int]]]()

    def __getattr__(self, name: str) -> Any:
        raise Unasked(f"the Surgeon's own {name}")

    def add_job(self, job: str, layer: Any, *, channels: Any = None, **others: Any) -> None:
        """Request removal of a layer's channels; other jobs are not supported."""
        if job != "delete_channels" or others.get("node_indices"):
            raise Unasked(f"the job {job}")
        self.gone.append((layer.name, channels))

    def operate(self) -> Any:
        """Return the model without them; Refused with the reason if a layer's channels can't go."""
        import numpy as np

        from pipeline.errors import SecateurError
        from stages.prune import channel_groups
        from stages.prune.surgery.equivalence import check_equivalence, masked_equivalence
        from stages.prune.surgery.surgeon import remove_channels

        try:
            graph = channel_groups(self.model)
            keep = np.ones(graph.count, dtype=bool)
            for name, channels in self.gone:
                keep[channels_of(graph, self.model.get_layer(name))[channels]] = False
            pruned = remove_channels(self.model, graph, keep)
            if runs(self.model):
                check_equivalence(masked_equivalence(self.model, pruned, graph, keep), int((~keep).sum()))
        except SecateurError as error:
            raise Refused(error.what) from error
        return pruned


def runs(model: Any) -> bool:
    """Return whether TensorFlow has kernels for the model here: the CPU lacks most for channels first."""
    return all(getattr(layer, "data_format", "channels_last") == "channels_last" for layer in model.layers)


def channels_of(graph: Any, layer: Any) -> Any:
    """Return a layer's channels in the order of its outputs; Refused if they can't be removed."""
    from stages.keras.channels.labels import Role

    slots = [slot for slot in graph.slots if slot.layer == layer.name and slot.role is Role.PRODUCER]
    count = next(getattr(layer, name) for name in ("units", "filters") if hasattr(layer, name))
    if not slots:
        raise Refused(f"no channels of a {type(layer).__name__} can be removed")
    channels = slots[0].channels[:count]  # each gate of a recurrent layer has as many
    for group in graph.groups:
        if group.frozen and set(group.channels.tolist()) & set(channels.tolist()):
            reasons = ", ".join(why.reason for why in group.frozen)
            raise Refused(f"the channels are frozen: {reasons}")
    return channels


def put_in_place(suite: str) -> None:
    """Install our functions where the suite looks for the peer's."""
    from stages.keras.tensorflow import import_keras

    import_keras()
    if suite == "tf2onnx":
        import onnx

        mapping = types.ModuleType("onnx.mapping")  # releases of onnx since 1.23 have none
        onnx.mapping = mapping  # type: ignore[attr-defined]
        sys.modules["onnx.mapping"] = mapping
        from tf2onnx import keras2onnx_api

        keras2onnx_api.convert_keras = convert_keras
    else:
        import kerassurgeon
        from kerassurgeon import operations

        import stages.prune.surgery.surgeon  # noqa: F401 - ours is made of the real one, which is taken first

        kerassurgeon.Surgeon = operations.Surgeon = Surgeon


class Recorder:
    """Record what became of each test (a pytest plugin), in the order in which they run."""

    def __init__(self, written: Path | None) -> None:
        self.names: list[str] = []
        self._file = written

    def pytest_collection_finish(self, session: Any) -> None:
        self.names = [item.name for item in session.items]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._write(nodeid)

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        """Judge after each part of a test; setting up says whether it is skipped."""
        if call.excinfo is None:
            verdict, reason = "passed", ""
        else:
            verdict, reason = judged(call.excinfo)
        if call.when == "call" or (call.when == "setup" and call.excinfo is not None):
            self._write(item.nodeid, verdict=verdict, reason=reason)

    def _write(self, nodeid: str, **result: str) -> None:
        if self._file is None:
            return
        with self._file.open("a") as file:
            file.write(json.dumps({"test": nodeid.partition("::")[2], **result}) + "\n")


def judged(excinfo: Any) -> tuple[str, str]:
    """Return the verdict on a test that did not pass, and one line of why."""
    import pytest

    error = excinfo.value
    text = " ".join(str(error).split())[:300]
    if isinstance(error, pytest.skip.Exception):
        return "skipped", text
    if isinstance(error, Refused | Unasked):
        return type(error).__name__.lower(), text
    if isinstance(error, AssertionError) and text.startswith("assert '{"):  # how a shared layer's calls are numbered
        return "unasked", "the text of two configurations is compared"
    return "wrong", f"{type(error).__name__}: {text}"


def main() -> int:
    import pytest

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", choices=("tf2onnx", "kerassurgeon"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    put_in_place(options.suite)
    recorder = Recorder(options.results)
    tests = json.loads(options.run.read_text()) if options.run else []
    chosen = [f"{options.file}::{test}" for test in tests] or [str(options.file)]
    folder = str(options.file.parent)
    plain = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", f"--rootdir={folder}", f"--confcutdir={folder}"]
    ended = pytest.main([*plain, *(["--collect-only"] if options.list else []), *chosen], plugins=[recorder])
    if options.list:
        print(json.dumps(recorder.names))
        return int(ended)
    return 0  # failed tests are results


if __name__ == "__main__":
    raise SystemExit(main())
