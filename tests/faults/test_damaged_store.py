"""Damage every file of a finished run's store in turn: found at the next use, made again, reported, never used."""

import shutil
from contextlib import suppress

import pytest
from typer.testing import CliRunner

from pipeline import Recipe, run
from pipeline.cli import build_app
from pipeline.errors import SecateurError
from pipeline.store import Store, file_digests

RECIPE = """\
name: short
model: model.keras
stages: [load, strip, {quantize: {schemes: [float32]}}, {export: {formats: [tflite]}}]
gates: [{metric: tflite/float32.size_bytes, max: 100000}]
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Run a small recipe to its end: return its folder with its store in it, and its manifest."""
    from stages.keras.tensorflow import import_keras

    folder, keras = tmp_path_factory.mktemp("whole"), import_keras()
    x = keras.Input((4,), name="x")
    keras.Model(x, keras.layers.Dense(2, name="y", kernel_initializer="ones")(x)).save(folder / "model.keras")
    (folder / "recipe.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_digests, "SETTLED_NS", -(10**12))  # a model this young is not remembered otherwise
        return folder, run(Recipe.load(folder / "recipe.yaml"), folder / "store")


def flipped(path):
    data = bytearray(path.read_bytes())
    if data:
        data[len(data) // 2] ^= 4
    path.write_bytes(data)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1])


def emptied(path):
    path.write_bytes(b"")


def removed(path):
    path.unlink()


def replaced_by_a_folder(path):
    path.unlink()
    (path / "inside").mkdir(parents=True)


def looked_at(store, run_id):
    """Call what looks into a store: only errors of ours come out, and nothing is moved."""
    app = build_app(["store", "show", "plan"])
    for words in (["store", "ls"], ["show", run_id], ["show", "latest", "--why", "strip"]):
        with suppress(SecateurError):
            CliRunner().invoke(app, [*words, "--store", str(store)], catch_exceptions=False)


@pytest.mark.parametrize("damage", [flipped, cut_short, emptied, removed, replaced_by_a_folder])
def test_whatever_is_damaged_the_next_run_ends_in_the_same_artifacts(whole, tmp_path, damage):
    folder, wanted = whole
    files = sorted(file.relative_to(folder) for file in (folder / "store").rglob("*") if file.is_file())
    kinds = {file.parts[1] for file in files}
    assert kinds == {"VERSION", "actions", "blobs", "file-digests.json", "leases", "locks", "runs"}
    for file in files:
        copy = shutil.copytree(folder, tmp_path / "copy")
        recipe, root = Recipe.load(copy / "recipe.yaml"), copy / "store"
        damage(copy / file)
        looked_at(root, wanted.run_id)
        again = run(recipe, root)
        assert [entry.outputs for entry in again.stages] == [entry.outputs for entry in wanted.stages], file
        assert (again.metrics, again.gates, again.verdict) == (wanted.metrics, wanted.gates, wanted.verdict), file
        assert {entry.status for entry in run(recipe, root).stages} == {"hit"}, file
        store = Store(root)
        assert all(store.blobs.problem(digest) is None for digest in store.blobs.digests()), file
        shutil.rmtree(copy)
