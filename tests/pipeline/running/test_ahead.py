"""Check what starts ahead: the child that exports, if an export follows from what is about to run; and what is kept."""

import shutil

import pytest

from pipeline.planning.plan import resolve
from pipeline.recipe.recipe import Recipe
from pipeline.running.ahead import keep_hits, prepare_followers
from pipeline.store import Store
from stages.formats.apart import process as child_process


@pytest.fixture
def nodes(recipe_file, tmp_path):
    """Return the nodes of a recipe by id; no child is left before or after."""
    child_process.end_child()
    yield {node.id: node for node in resolve(Recipe.load(recipe_file()), Store(tmp_path / "store")).chain.nodes}
    child_process.end_child()


@pytest.mark.parametrize(
    ("running", "starts"),
    [
        *((name, True) for name in ("load", "prune", "quantize:int8", "export:onnx/int8", "baseline:tflite")),
        *((name, False) for name in ("control", "evaluate:strip", "verify:onnx/int8", "benchmark:onnx/int8@cpu")),
    ],
)
def test_the_child_starts_where_an_export_follows(nodes, running, starts):
    prepare_followers(nodes[running], list(nodes.values()), threads=2)
    # If TensorFlow is still to be imported, the child comes right after it.
    threads = [child.threads for child in child_process._children] + [one for one, _ in child_process._wanted]
    assert threads == ([2] if starts else [])


def test_hits_that_are_to_come_are_noted_and_are_no_results_yet(finished, tmp_path):
    path, root, manifest = finished
    store = Store(shutil.copytree(root, tmp_path / "copy"))
    resolution = resolve(Recipe.load(path), store)
    with store.leases.hold():
        keep_hits(resolution.chain.nodes, resolution, store)
        (noted,) = store.leases.live().values()
    assert noted == {entry.key for entry in manifest.stages}
    assert (resolution.results, resolution.causes) == ({}, {})


def test_what_is_forced_is_no_hit_to_come(finished, tmp_path):
    path, root, manifest = finished
    store = Store(shutil.copytree(root, tmp_path / "copy"))
    resolution = resolve(Recipe.load(path), store, force_from="quantize")
    with store.leases.hold():
        keep_hits(resolution.chain.nodes, resolution, store)
        (noted,) = store.leases.live().values()
    assert noted == {entry.key for entry in manifest.stages[:2]}
