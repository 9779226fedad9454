"""Find the layers to keep within a budget, on a network of which int8 spoils one layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import Recipe, run
from pipeline.contracts.events import Event, Warned
from pipeline.errors import PostconditionError, RecipeError
from pipeline.records.facts import QuantizedFacts
from pipeline.records.schemes import Quantization
from stages.formats.registry import load_exported
from stages.keras.normal_form import encode_model
from stages.keras.tensorflow import import_keras
from stages.quantize.budget import doubling, kept_in
from stages.quantize.budget_facts import BudgetFacts

RECIPE = """\
name: budget
threads: {threads}
model: model.keras
data: {{source: npz, path: {data}.npz, calibration: {{from: train, take: 32}}, validation: val{task}}}
stages:
  - load
  - quantize: {{schemes: [{{mixed: {{scheme: int8, budget: {budget}}}}}]}}
  - export: {{formats: [tflite]}}
"""
Searched = tuple[BudgetFacts, Quantization, dict[str, float], list[str]]


@pytest.fixture(scope="module")
def network(lopsided: Any) -> Any:
    """Build first → second → narrow → wide → head: int8 spoils what `wide` gives, and hardly anything else."""
    keras = import_keras()
    image = keras.Input((12,), name="image")
    keras.utils.set_random_seed(8)
    first, second = (keras.layers.Dense(12, activation="tanh", name=name) for name in ("first", "second"))
    x = second(first(image))
    for name in ("narrow", "wide", "head"):
        x = lopsided.get_layer(name)(x)
    return keras.Model(image, x, name="network")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, network: Any) -> Path:
    """Hold the model, its data and a store for all searches; labels are the network's own classes."""
    folder = tmp_path_factory.mktemp("budget")
    x = np.random.default_rng(6).standard_normal((160, 12)).astype(np.float32)
    y = np.asarray(network(x, training=False)).argmax(1)
    arrays = {"x_train": x[:40], "x_val": x[40:]}
    np.savez(folder / "bare.npz", **arrays)
    np.savez(folder / "labelled.npz", **arrays, y_train=y[:40], y_val=y[40:])
    (folder / "model.keras").write_bytes(encode_model(network))
    return folder


@pytest.fixture
def search(folder: Path, make_context: Callable[..., Any]) -> Callable[..., Searched]:
    """Run a recipe with a budget: return the report, the scheme, the metrics and the messages."""
    threads = make_context(None).threads

    def searched(budget: str, data: str = "labelled") -> Searched:
        recipe = folder / "recipe.yaml"
        recipe.write_text(
            RECIPE.format(
                budget=budget, data=data, task=", task: unlabelled" if data == "bare" else "", threads=threads
            )
        )
        heard: list[Event] = []
        manifest = run(Recipe.load(recipe), folder / "store", listener=heard.append)
        (entry,) = [entry for entry in manifest.stages if entry.stage == "quantize"]
        facts = [output.facts for output in entry.outputs]
        (report,) = [one for one in facts if isinstance(one, BudgetFacts)]
        (how,) = [one.quantization for one in facts if isinstance(one, QuantizedFacts)]
        told = [event.message for event in heard if isinstance(event, Warned) and event.message.startswith("budget")]
        return report, how, dict(manifest.metrics), told

    return searched


def test_the_cheapest_file_that_holds_a_loss_and_the_best_of_as_many_bytes_are_one(
    search: Callable[..., Searched],
) -> None:
    report, how, metrics, told = search("{max_accuracy_drop: 0.05}")
    int8, cheapest = report.tries[0], report.tries[report.chosen]
    assert int8.noise > 0.5 > 0.001 > cheapest.noise
    assert cheapest.kept_float == ("wide", "head")
    assert all(one.accuracy_drop > 0.05 for one in report.tries if one.size_bytes < cheapest.size_bytes)  # type: ignore[operator]
    assert (how.keep_float, how.keep_int16, how.budget) == (("wide", "head"), (), None)
    assert told[0].startswith(f"budget: of {len(report.tries)} files the best keeps wide, head in float32: ")
    assert report.notes == (told[0],)
    assert "; int8 alone keeps no layer: " in told[0]
    limit = cheapest.size_bytes
    assert metrics["tflite/mixed.size_bytes"] == limit
    limited, how, metrics, _ = search(f"{{size_bytes: {limit}}}")
    assert how.keep_float == ("wide", "head")
    assert metrics["tflite/mixed.size_bytes"] == limit
    assert any(one.size_bytes > limit and one.noise < cheapest.noise for one in limited.tries)


def test_what_a_try_loses_is_that_of_its_file_on_the_validation_split(
    search: Callable[..., Searched], folder: Path, network: Any
) -> None:
    report, _, _, _ = search("{size_bytes: 1000000}")
    with np.load(folder / "labelled.npz") as arrays:
        x, y = arrays["x_val"], arrays["y_val"]
    wanted, seen = network(x, training=False).numpy(), 0
    for blob in (path for path in (folder / "store" / "blobs").rglob("*") if path.is_file()):
        data = blob.read_bytes()
        for one in report.tries:
            if data[4:8] == b"TFL3" and len(data) == one.size_bytes:
                (found,) = load_exported("tflite-model", data).run({"image": x}).values()
                noise = np.square(found - wanted).sum() / np.square(wanted).sum()
                assert one.noise == pytest.approx(noise, rel=1e-3, abs=1e-12)
                assert one.accuracy_drop == pytest.approx(1 - (found.argmax(1) == y).mean(), abs=1e-6)
                seen += 1
    assert seen >= len(report.tries)


def test_layers_in_16_bits_take_fewer_bytes_than_in_float(search: Callable[..., Searched]) -> None:
    report, how, _, told = search("{max_accuracy_drop: 0.05, precisions: [float32, int16x8]}")
    assert "ELU (network/wide/Elu) can't be made with 16-bit activations" in told[0]
    holds = [one for one in report.tries if one.accuracy_drop is not None and one.accuracy_drop <= 0.05]
    assert report.tries[0] not in holds
    chosen = report.tries[report.chosen]
    assert chosen.size_bytes == min(one.size_bytes for one in holds)
    assert how.keep_int16 == chosen.kept_int16
    sizes: dict[bool, dict[frozenset[str], int]] = {False: {}, True: {}}
    for one in sorted(report.tries, key=lambda one: -one.size_bytes):
        sizes[bool(one.kept_int16)][frozenset((*one.kept_float, *one.kept_int16))] = one.size_bytes
    both = sizes[True].keys() & sizes[False].keys()
    assert any(sizes[True][kept] < sizes[False][kept] for kept in both)


def test_without_labels_the_outputs_are_compared_with_the_model_s(search: Callable[..., Searched]) -> None:
    report, _, _, told = search("{max_noise: 0.01, candidates: 0}", "bare")
    assert report.tries[0].noise > 0.01 >= report.tries[report.chosen].noise
    assert {one.accuracy_drop for one in report.tries} == {None}
    assert "accuracy" not in told[0]
    with pytest.raises(RecipeError, match="max_accuracy_drop needs labels"):
        search("{max_accuracy_drop: 0.1}", "bare")


def test_a_budget_that_nothing_holds_names_the_nearest(search: Callable[..., Searched]) -> None:
    with pytest.raises(PostconditionError, match=r"is within the budget: the nearest keeps no layer: [\d,]+ bytes"):
        search("{size_bytes: 500}")


def test_a_target_that_does_not_measure_the_limit_is_refused_in_the_plan(search: Callable[..., Searched]) -> None:
    with pytest.raises(RecipeError, match="cpu does not measure instruction_ratio"):
        search("{instruction_ratio: 0.9, target: cpu}")
    with pytest.raises(RecipeError, match="no target 'cpuu'"):
        search("{latency_ratio: 0.9, target: cpuu}")


def test_what_is_kept_is_in_the_order_of_the_model_and_float_wins() -> None:
    how = Quantization(scheme="int8", keep_float=("c",), keep_int16=("b",))
    made = kept_in(how, {"a": "int16x8", "b": "float32"}, ["a", "b", "c"])
    assert (made.keep_float, made.keep_int16) == (("b", "c"), ("a",))


def test_counts_double_up_to_all() -> None:
    assert [list(doubling(most)) for most in (0, 1, 5, 8)] == [[], [1], [1, 2, 4, 5], [1, 2, 4, 8]]
