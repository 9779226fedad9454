from __future__ import annotations

import pytest

from pipeline.errors import RecipeError


def test_what_is_not_there_comes_with_the_nearest_names(files, tmp_path, run):
    few, _ = files
    with pytest.raises(RecipeError, match="is not a file, a run or an artifact") as caught:
        run("compare", few, few.with_name("fev.onnx"), "--store", tmp_path / "store")
    assert str(few) in caught.value.hint
    with pytest.raises(RecipeError, match="is not a file, a run or an artifact") as caught:
        run("compare", "latest", few, "--store", tmp_path / "store")
    assert caught.value.hint == f"secateur store ls --store {tmp_path / 'store'}   lists runs and artifacts"
    with pytest.raises(RecipeError, match="a folder is not a model"):
        run("compare", few, tmp_path)
