import numpy as np
import pytest

from stages.keras.regression.finished import finished, restore, store


@pytest.fixture
def model(keras, randomize):
    x = inputs = keras.Input((3,))
    for name in ("first", "second"):
        x = keras.layers.BatchNormalization(name=f"{name}_norm")(keras.layers.Dense(3, name=name)(x))
    return randomize(keras.Model(inputs, x))


def test_what_a_step_changed_comes_back_with_its_report(model, keras, tmp_path):
    other = keras.models.clone_model(model)
    first, norm = model.get_layer("first"), model.get_layer("first_norm")
    assert not finished(tmp_path, 4)
    store(tmp_path, 4, model, [first.kernel, norm.beta], [{"layer": "first", "error": 0.25}])
    assert finished(tmp_path, 4)
    assert not finished(tmp_path, 3)
    before = other.get_layer("second").kernel.numpy(), other.get_layer("first").bias.numpy()
    assert restore(tmp_path, 4, other) == [{"layer": "first", "error": 0.25}]
    np.testing.assert_array_equal(other.get_layer("first").kernel, first.kernel)
    np.testing.assert_array_equal(other.get_layer("first_norm").beta, norm.beta)
    np.testing.assert_array_equal(other.get_layer("second").kernel, before[0])
    np.testing.assert_array_equal(other.get_layer("first").bias, before[1])
    assert not list(tmp_path.glob("*.draft"))


def test_a_step_that_changed_nothing_is_finished_too(model, tmp_path):
    store(tmp_path, 0, model, [], [])
    assert finished(tmp_path, 0)
    assert restore(tmp_path, 0, model) == []


def test_a_kill_between_weights_and_report_leaves_the_step_undone(model, tmp_path):
    with pytest.raises(TypeError):
        store(tmp_path, 0, model, [model.get_layer("first").kernel], [{"layer": object()}])
    assert (tmp_path / "step-0.npz").exists()
    assert not finished(tmp_path, 0)


@pytest.mark.parametrize("name", ["step-0.npz", "step-0.json"])
def test_a_step_of_which_a_bit_is_another_is_undone_and_done_again(model, tmp_path, name):
    changed, path = [model.get_layer("first").kernel], tmp_path / name
    store(tmp_path, 0, model, changed, [{"layer": "first"}])
    whole = path.read_bytes()
    for damaged in (whole[:-1], b"", whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]):
        path.write_bytes(damaged)
        assert not finished(tmp_path, 0)
    store(tmp_path, 0, model, changed, [{"layer": "first"}])
    assert finished(tmp_path, 0)
