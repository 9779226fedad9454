"""Provide tiny networks, weights that make checks meaningful, and the check that every rule has to pass."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.contracts.events import ActionEvents, Event
from pipeline.contracts.shared import Shared
from pipeline.records.artifacts import Artifact, FileRef
from pipeline.records.manifest import Fingerprint
from stages.keras.flatten import flattened
from stages.keras.normal_form import MEDIA_TYPE, MODEL_FILE, encode_model, keras_facts
from stages.keras.tensorflow import import_keras
from stages.prune.analysis.groups import channel_groups
from stages.prune.config import PruneConfig
from stages.prune.surgery.equivalence import masked_equivalence
from stages.prune.surgery.surgeon import remove_channels
from stages.prune.surgery.twins import randomise_weights

ROOT = Path(__file__).parents[3]
THREADS = int(os.environ.get("TF_NUM_INTRAOP_THREADS") or os.cpu_count() or 1)  # TensorFlow's default


@pytest.fixture(autouse=True)
def fresh_session() -> Iterator[None]:
    """Clear the session: Keras keeps every symbolic tensor in one graph, and slows down as it grows."""
    yield
    import_keras().backend.clear_session()


def _random_keep(graph: Any, seed: int = 0) -> np.ndarray:
    """Remove about half of each prunable group; one channel always stays, and one goes if there are at least two."""
    rng = np.random.default_rng(seed)
    keep = np.ones(graph.count, dtype=bool)
    for group in graph.prunable:
        size = group.channels.size
        if size > 1:
            keep[rng.choice(group.channels, rng.integers(1, size), replace=False)] = False
    return keep


def _cut(model: Any, seed: int = 0) -> Any:
    """Return the network without random channels, which must equal the masked original."""
    model = flattened(randomise_weights(model, seed))
    graph = channel_groups(model)
    keep = _random_keep(graph, seed)
    pruned = remove_channels(model, graph, keep)
    found = masked_equivalence(model, pruned, graph, keep)
    assert found.error < 1e-5
    assert (found.effect > 1e-4) == bool((~keep).any())
    assert pruned.count_params() < model.count_params() or keep.all()
    return SimpleNamespace(model=model, graph=graph, keep=keep, pruned=pruned, found=found)


@pytest.fixture(scope="session")
def random_keep() -> Any:
    return _random_keep


@pytest.fixture(scope="session")
def cut() -> Any:
    return _cut


@pytest.fixture(scope="session")
def groups() -> Any:
    """Return a network's groups by name: prunable ones by their size, frozen ones by their reasons."""

    def describe(model: Any) -> dict[str, Any]:
        return {
            group.name: [str(why) for why in group.frozen] or group.channels.size
            for group in channel_groups(model).groups
        }

    return describe


@pytest.fixture
def mini_xception() -> Any:
    """Build the demo's network with random weights."""
    spec = importlib.util.spec_from_file_location("train_demo_model", ROOT / "benchmarks" / "train_demo_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return randomise_weights(module.mini_xception())


@dataclass
class FolderContext:
    """Provide a minimal stage context: files in a folder, events in a list."""

    config: PruneConfig
    inputs: Mapping[str, Artifact]
    folder: Path
    seed: int = 7
    threads: int = THREADS
    axis: str | None = None
    heard: list[Event] = field(default_factory=list)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)
    shared: Shared = field(default_factory=Shared)

    @property
    def events(self) -> ActionEvents:
        return ActionEvents("prune", self.heard.append)

    def read(self, input_name: str, file_name: str) -> Path:
        return self.folder / self.inputs[input_name].file(file_name).digest.removeprefix("sha256:")

    def attest(self, file: FileRef, fingerprint: Fingerprint) -> None:
        self.fingerprints[file.digest] = fingerprint

    def fingerprint(self, file: FileRef) -> Fingerprint | None:
        return self.fingerprints.get(file.digest)

    def write(self, name: str, data: bytes, media_type: str) -> FileRef:
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / digest).write_bytes(data)
        return FileRef(name=name, digest=f"sha256:{digest}", size=len(data), media_type=media_type)


@pytest.fixture
def context(tmp_path: Path) -> Any:
    """Return a stage context that holds a model as its input, for a configuration."""

    def make(model: Any, config: PruneConfig) -> FolderContext:
        made = FolderContext(config, {}, tmp_path)
        file = made.write(MODEL_FILE, encode_model(model), MEDIA_TYPE)
        made.inputs = {"model": Artifact(files=(file,), facts=keras_facts(model))}
        return made

    return make
