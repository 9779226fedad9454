from pathlib import Path

import pytest

from stages.formats.tflite import saved_function
from stages.formats.tflite.saved_function import SavedFunction
from stages.keras.tensorflow import import_keras


@pytest.fixture
def model():
    keras = import_keras()
    return keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2)])


def test_one_model_is_saved_once_for_equal_settings_and_only_the_last_stays(model, monkeypatch):
    saved = []
    save = saved_function.save_function
    monkeypatch.setattr(saved_function, "save_function", lambda *told: (saved.append(told[1]), save(*told)))
    kept = SavedFunction()
    first = kept.of(model, "sha256:one", None)
    assert kept.of(model, "sha256:one", None) == first
    assert kept.of(model, "sha256:one", None, "unrolled") == first  # it has no recurrent layers
    assert (Path(first) / "saved_model.pb").is_file()
    second = kept.of(model, "sha256:two", None)
    assert saved == [first, second]
    assert not Path(first).exists()
    third = kept.of(model, "sha256:two", {"x": (3,)})  # other shapes are another function
    assert third != second


def test_what_failed_leaves_nothing_behind(model, monkeypatch):
    folders = []

    def fail(model, folder, *told):
        folders.append(Path(folder))
        raise KeyboardInterrupt

    monkeypatch.setattr(saved_function, "save_function", fail)
    kept = SavedFunction()
    with pytest.raises(KeyboardInterrupt):
        kept.of(model, "sha256:three", None)
    assert not folders[0].exists()
    monkeypatch.undo()
    assert Path(kept.of(model, "sha256:three", None)).is_dir()
