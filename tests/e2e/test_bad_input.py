"""Test user errors: each gives a clear message, DESIGN's exit code, no traceback, nothing half-written."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest


def refused(secateur, expected, *arguments, **options):
    code, _, err = secateur(*arguments, **options)
    assert code == expected, err
    assert "Traceback" not in err
    assert "error: " in err
    return err


def replaced(path, data):
    """Replace a link to a shared file by other bytes."""
    path.unlink()
    path.write_bytes(data)


def other_data(folder, **members):
    with np.load(folder / "data.npz") as archive:
        arrays = dict(archive)
    (folder / "data.npz").unlink()
    np.savez(folder / "data.npz", **{**arrays, **members})


def test_a_ratio_that_can_not_be_and_an_unknown_key(recipe, secateur, tmp_path):
    err = refused(secateur, 2, "run", recipe(replace=[("ratio: 0.5", "ratio: 1.5")]), "--store", tmp_path / "store")
    assert "prune.ratio: 1.5" in err
    assert "tiny.yaml:13:" in err
    err = refused(secateur, 2, "run", recipe(replace=[("ratio: 0.5", "ratoi: 0.5")]), "--store", tmp_path / "store")
    assert "ratio" in err
    assert not (tmp_path / "store").exists()


def test_a_model_that_is_not_there(recipe, secateur, tmp_path):
    err = refused(secateur, 2, "run", recipe(replace=[("tiny.keras", "none.keras")]), "--store", tmp_path / "store")
    assert "none.keras" in err


def test_a_model_file_cut_short(recipe, secateur, tmp_path):
    path = recipe()
    replaced(tmp_path / "tiny.keras", (tmp_path / "tiny.keras").read_bytes()[:5000])
    code, manifest, err = secateur("run", path, "--store", tmp_path / "store", "--json")
    assert code == 4
    assert "damaged or cut short" in err
    assert manifest["verdict"] == "failed"
    assert [e["status"] for e in manifest["stages"]][:2] == ["failed", "skipped"]
    assert not list((tmp_path / "store" / "actions").rglob("*.json"))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"x_test": np.zeros((60, 14, 14, 1), np.uint8)}, "14×14×1"),
        ({"y_test": np.full(60, 3)}, "labels run from 3 to 3"),
        ({"y_test": np.full(60, -1)}, "label -1"),
        ({"y_test": np.zeros((60, 3))}, "integer class labels"),
    ],
)
def test_data_that_does_not_fit_the_model(recipe, secateur, tmp_path, members, words):
    path = recipe()
    other_data(tmp_path, **members)
    err = refused(secateur, 4, "run", path, "--store", tmp_path / "store", "--until", "prune")
    assert words in err


def test_training_data_that_does_not_fit_is_found_too(recipe, secateur, tmp_path):
    gate = ('"tflite/int8.accuracy", min: 0.1', '"finetune.validation_accuracy", min: 0')
    path = recipe(replace=[("  test: test\n", ""), ("  - verify\n", ""), gate])
    other_data(tmp_path, y_train=np.arange(300) % 5)
    err = refused(secateur, 4, "run", path, "--store", tmp_path / "store", "--until", "finetune")
    assert "labels run from 0 to 4" in err


def test_a_layer_pattern_that_matches_nothing(recipe, secateur, tmp_path):
    path = recipe(replace=[("round_to: 2", 'round_to: 2, exclude: ["hed*"]')])
    err = refused(secateur, 4, "run", path, "--store", tmp_path / "store", "--until", "prune")
    assert "hed*" in err
    assert "head" in err


def test_a_store_that_can_not_be_written(recipe, secateur, tmp_path):
    (tmp_path / "file").write_text("x")
    err = refused(secateur, 4, "run", recipe(), "--store", tmp_path / "file" / "store")
    assert "--store" in err


def test_a_store_on_a_full_disk(recipe, tmp_path):
    """A limit on the size of files fails the first large write as a full disk does; what is whole stays."""
    store = tmp_path / "store"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", recipe(), "--store", store, "--until", "load"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CI": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limit)),
    )
    assert done.returncode == 4, done.stderr
    assert "the store can't be used" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((store / "blobs").rglob("*.*"))
    assert not list((store / "tmp").iterdir())


def test_words_that_are_no_command_and_stages_that_are_none(recipe, secateur, tmp_path):
    assert secateur("rnu")[0] == 2
    assert secateur("run")[0] == 2
    err = refused(secateur, 2, "run", recipe(), "--until", "finetnue", "--store", tmp_path / "store")
    assert "finetune" in err
    err = refused(secateur, 2, "show", "ffff", "--store", tmp_path / "store")
    assert "ffff" in err
    code, document, _ = secateur("show", "ffff", "--store", tmp_path / "store", "--json")
    assert (code, document["schema_version"], document["error"]["exit_code"]) == (2, 1, 2)
