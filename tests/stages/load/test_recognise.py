import gzip
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

from pipeline.errors import ModelError, RecipeError
from stages.load.recognise import file_kind


def onnx_bytes():
    import onnx

    graph = onnx.helper.make_graph([], "empty", [], [])
    return onnx.helper.make_model(graph, producer_name="test").SerializeToString()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "this is no Keras model file"),
        (b"hello", "this is no Keras model file"),
        (b"\x1c\x00\x00\x00TFL3", "one of TFLite"),
        (pickle.dumps({"weights": [1.0]}), "a pickle, and those run code"),
        (gzip.compress(b"model", mtime=0), "a gzip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"<!DOCTYPE html><title>404</title>", "a web page"),
    ],
)
def test_other_files_are_no_models_and_are_said_to_be_what_they_seem(tmp_path, content, words):
    (tmp_path / "m.keras").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        file_kind(tmp_path / "m.keras")
    assert words in caught.value.what
    assert caught.value.where == str(tmp_path / "m.keras")


def test_onnx_pytorch_numpy_and_tar_are_told(tmp_path):
    path = tmp_path / "m.h5"
    path.write_bytes(onnx_bytes())
    with pytest.raises(ModelError, match="one of ONNX"):
        file_kind(path)
    with zipfile.ZipFile(path, "w") as archive:  # as torch.save does
        archive.writestr("model/data.pkl", pickle.dumps([]))
    with pytest.raises(ModelError, match="one of PyTorch"):
        file_kind(path)
    np.savez(tmp_path / "arrays.npz", x=np.zeros(3))
    with pytest.raises(ModelError, match="arrays of numpy"):
        file_kind(tmp_path / "arrays.npz")
    with tarfile.open(path, "w") as archive:
        archive.add(tmp_path / "arrays.npz", "arrays.npz")
    with pytest.raises(ModelError, match="a tar archive"):
        file_kind(path)


def test_paths_that_are_not_there_and_folders_that_are_no_savedmodel(tmp_path):
    with pytest.raises(RecipeError, match="not there"):
        file_kind(tmp_path / "none.keras")
    with pytest.raises(ModelError, match=r"no saved_model\.pb"):
        file_kind(tmp_path)
