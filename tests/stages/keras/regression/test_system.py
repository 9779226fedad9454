import numpy as np
import pytest

from stages.keras.regression import system as system_module
from stages.keras.regression.linear_layers import LinearLayer, outputs_of
from stages.keras.regression.offsets import Offset
from stages.keras.regression.probabilities import Fitted, Probabilities, divergence, squashed
from stages.keras.regression.system import System

RIDGE = 1e-3


@pytest.fixture
def layer(keras):
    built = keras.layers.Conv1D(4, 1, groups=2)
    built.build((None, 5, 6))
    rng = np.random.default_rng(0)
    built.set_weights([rng.standard_normal(weight.shape) for weight in built.get_weights()])
    return built


def drawn(layer, noise=0.5, seed=1, count=300):
    """Return rows (2, n, 3), targets of another layer (n, 4), and which are fitted."""
    rng = np.random.default_rng(seed)
    linear = LinearLayer(layer)
    rows = 3.0 + rng.standard_normal((2, count, 3)) @ rng.standard_normal((2, 3, 3))
    offset = linear.offset + np.array([1.0, -2, 3, 0])
    wanted = outputs_of(rows, linear.matrices + rng.standard_normal((2, 3, 2)), offset)
    return rows, wanted + noise * rng.standard_normal(wanted.shape), np.arange(count) % 5 != 4


def solved(system, rows, targets, fitted):
    for block in range(system.blocks):
        system.begin(block)
        for start in range(0, len(targets), 70):
            part = slice(start, start + 70)
            system.add(block, rows[:, part], targets[part], fitted[part])
        system.solve(block, RIDGE)
    return system


def error_of(layer, rows, targets, which):
    linear = LinearLayer(layer)
    residual = (targets - outputs_of(rows, linear.matrices, linear.offset))[which]
    return np.square(residual).sum() / targets[which].var(axis=0).sum() / which.sum()


def test_errors_are_those_of_the_layer_on_held_out_rows_before_and_after(layer):
    rows, targets, fitted = drawn(layer)
    before = error_of(layer, rows, targets, ~fitted)
    system = solved(System(LinearLayer(layer), Offset(layer)), rows, targets, fitted)
    assert system.error_before == pytest.approx(before)
    assert (system.rows, system.unknowns, system.kept) == (240, 3, True)
    system.apply()
    assert system.error_after == pytest.approx(error_of(layer, rows, targets, ~fitted), rel=1e-4)
    assert system.error_after < 0.2 * before
    assert [id(variable) for variable in system.changed] == [id(layer.kernel), id(layer.bias)]


def test_what_is_found_is_the_least_squares_change(layer):
    rows, targets, fitted = drawn(layer)
    linear = LinearLayer(layer)
    system = solved(System(linear, Offset(layer)), rows, targets, fitted)
    residual = targets - outputs_of(rows, linear.matrices, linear.offset)
    ((variable, values),) = system.values
    assert variable is layer.kernel
    for group in range(2):
        p, r = rows[group, fitted], residual[fitted, 2 * group : 2 * group + 2]
        p, r = p - p.mean(0), r - r.mean(0)
        more = np.sqrt(len(p) * RIDGE * np.square(p).mean(axis=0).mean()) * np.eye(3)
        change = np.linalg.lstsq(np.vstack([p, more]), np.vstack([r, np.zeros((3, 2))]), rcond=None)[0]
        found = values[0, :, 2 * group : 2 * group + 2] - layer.kernel.numpy()[0, :, 2 * group : 2 * group + 2]
        np.testing.assert_allclose(found, change, rtol=1e-6, atol=1e-6)


def test_without_a_place_for_an_offset_none_is_fitted(layer):
    rows, targets, fitted = drawn(layer)
    bias = layer.bias.numpy()
    system = solved(System(LinearLayer(layer), None), rows, targets, fitted)
    system.apply()
    assert system.error_after == pytest.approx(error_of(layer, rows, targets, ~fitted), rel=1e-4)
    assert [id(variable) for variable in system.changed] == [id(layer.kernel)]
    np.testing.assert_array_equal(layer.bias, bias)


def test_weights_that_do_worse_on_held_out_rows_are_not_taken(layer):
    rows, _, fitted = drawn(layer, noise=0)
    linear, kernel = LinearLayer(layer), layer.kernel.numpy()
    exact = outputs_of(rows, linear.matrices, linear.offset)
    exact[~fitted] += 0.01 * np.random.default_rng(4).standard_normal(exact[~fitted].shape)
    exact[fitted] += 5.0 * np.random.default_rng(5).standard_normal(exact[fitted].shape)
    system = solved(System(linear, Offset(layer)), rows, exact, fitted)
    system.apply()
    assert not system.kept
    assert system.error_after == system.error_before > 0
    assert system.changed == []
    np.testing.assert_array_equal(layer.kernel, kernel)


@pytest.mark.parametrize("mean", [0.0, 1e4])
def test_a_layer_that_computes_what_it_should_is_left_alone(layer, mean):
    """Targets are stored as float32: their rounding is no error, however large their mean."""
    rows, _, fitted = drawn(layer)
    layer.bias.assign(layer.bias + mean)
    linear = LinearLayer(layer)
    system = System(linear, Offset(layer))
    targets = outputs_of(rows, linear.matrices, linear.offset).astype(np.float32).astype(np.float64)
    solved(system, rows, targets, fitted)
    assert not system.kept


def test_blocks_of_unknowns_come_near_to_all_at_once(layer, monkeypatch):
    rows, targets, fitted = drawn(layer)
    whole = solved(System(LinearLayer(layer), Offset(layer)), rows, targets, fitted)
    monkeypatch.setattr(system_module, "BLOCK", 2)
    system = System(LinearLayer(layer), Offset(layer))
    assert system.blocks == 2
    solved(system, rows, targets, fitted)
    system.apply()
    assert system.error_after == pytest.approx(error_of(layer, rows, targets, ~fitted), rel=1e-4)
    assert whole.error_after <= system.error_after < 0.5 * (whole.error_before + whole.error_after)


def test_constant_targets_are_no_division_by_zero(layer):
    rows, targets, fitted = drawn(layer)
    system = solved(System(LinearLayer(layer), Offset(layer)), rows, np.full_like(targets, 2.0), fitted)
    assert np.isfinite([system.error_before, system.error_after]).all()
    assert system.error_after < system.error_before


@pytest.fixture
def head(keras):
    built = keras.layers.Dense(3)
    built.build((None, 4))
    built.set_weights([np.random.default_rng(0).standard_normal(weight.shape) for weight in built.get_weights()])
    return built


def curved(seed=1, count=300, by=1.0):
    """Return rows (1, n, 4), sums that no linear layer gives, and which are fitted."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((1, count, 4))
    sums = rows[0] @ rng.standard_normal((4, 3)) * 2
    return rows, sums + by * np.abs(sums) ** 1.5, np.arange(count) % 5 != 4


def test_a_closing_layer_is_fitted_to_probabilities_and_its_error_is_that_of_its_sums(head):
    rows, sums, fitted = curved()
    plain = solved(System(LinearLayer(head), Offset(head)), rows, sums, fitted)
    closing = Probabilities.of("softmax", (1, 4, 3), 240)
    system = solved(System(LinearLayer(head), Offset(head), closing), rows, sums, fitted)
    after = system.divergence_after
    assert after < system.divergence_before
    assert plain.divergence_after is None
    system.apply()
    assert system.error_after == pytest.approx(error_of(head, rows, sums, ~fitted), rel=1e-4)
    assert plain.error_after < system.error_after < system.error_before
    made = squashed(rows[0] @ head.kernel.numpy() + head.bias.numpy(), "softmax")[~fitted]
    assert after == pytest.approx(divergence(squashed(sums, "softmax")[~fitted], made, "softmax"), rel=1e-3)


def test_probabilities_that_move_the_sums_away_are_not_taken(head, monkeypatch):
    rows, sums, fitted = curved()
    plain = solved(System(LinearLayer(head), Offset(head)), rows, sums, fitted)
    for by, taken in ((1.0, True), (-50.0, False)):
        found = Fitted(by * plain.values[0][1].astype(np.float64), np.zeros(3), 1.0, 0.5)
        monkeypatch.setattr(Probabilities, "fit", lambda *_, found=found, **__: found)
        system = solved(System(LinearLayer(head), Offset(head), Probabilities("softmax")), rows, sums, fitted)
        assert (system.divergence_after is not None) is taken
        assert taken or system.error_after == plain.error_after
