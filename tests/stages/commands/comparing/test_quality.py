import numpy as np
import pytest

from pipeline.contracts.events import ActionEvents
from pipeline.errors import DataError, RecipeError
from stages.commands.comparing.pairing import Pair
from stages.commands.comparing.quality import labelled_test_data, with_quality

X = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]


def test_both_files_are_measured_on_the_same_data(make_onnx, operand, make_split):
    right, wrong = (operand(make_onnx(1, ("N", 3), name)).models[0] for name in ("Identity", "Neg"))
    split, heard = make_split("test", X, np.array([0, 1, 2, 0])), []
    pair = with_quality(Pair("x", right, wrong), split, ActionEvents("compare", heard.append))
    assert (pair.baseline.quality, pair.candidate.quality) == ({"accuracy": 0.75}, {"accuracy": 0.25})
    assert pair.baseline.tested_on == pair.candidate.tested_on == split.digest
    assert [(event.done, event.total) for event in heard] == [(4, 4)] * 2


def test_data_of_another_model_is_refused(make_onnx, operand, make_split):
    (model,) = operand(make_onnx(1, ("N", 5), "Identity")).models
    split = make_split("test", X, np.array([0, 1, 2, 1]))
    with pytest.raises(DataError, match="samples are 3, the model's input 'x' takes 5"):
        with_quality(Pair("x", model, model), split, ActionEvents("compare", lambda event: None))


def test_the_recipe_s_test_split_is_taken_with_its_labels(tmp_path):
    np.savez(tmp_path / "d.npz", x_train=X, y_train=[0, 1, 2, 2], x_test=X[:2], y_test=[1, 0])
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: r\nmodel: m.keras\ndata: {source: npz, path: d.npz, test: test}\nstages: [load]\n")
    assert labelled_test_data(recipe).y.tolist() == [1, 0]
    for old, new, words in (
        (", test: test", "", "no test data"),
        ("source: npz,", "source: npz, task: unlabelled,", "no labels"),
    ):
        other = tmp_path / "other.yaml"
        other.write_text(recipe.read_text().replace(old, new))
        with pytest.raises(RecipeError, match=words):
            labelled_test_data(other)
