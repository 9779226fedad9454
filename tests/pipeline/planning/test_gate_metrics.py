import pytest

from pipeline.errors import RecipeError
from pipeline.planning.gate_metrics import check_gate_metrics

GATE = "tflite/int8.accuracy_drop"
SOURCE = {"source.params": 1.0}


def told(text):
    return ("  test: test\n", f"  test: test\n{text}")


@pytest.mark.parametrize(
    ("data", "gate", "what", "hint"),
    [
        (
            "  task: regression\n  metrics: [mae]\n",
            "tflite/int8.mse_ratio",
            r"gates\[0\]\.metric: tflite/int8 will have no 'mse_ratio': the recipe measures mae \(task regression\)",
            "add mse to data.metrics: [mae, mse]",
        ),
        (
            "  task: classes\n",
            "tflite/int8.mse_ratio",
            r"the recipe measures accuracy \(task classes\)",
            "hold accuracy, accuracy_drop or accuracy_drop_reference instead",
        ),
        ("  task: regression\n", GATE, r"the recipe measures mse and mae \(task regression\)", "hold mae, mae_ratio, "),
        ("  task: classes\n", "prune.macro_f1_drop", "prune will have no", "data.metrics: [accuracy, macro_f1]"),
        (
            "  task: {age: regression}\n  metrics: {age: [mae]}\n",
            "source.mse[age]",
            "of output 'age'",
            "{age: [mae, mse]}",
        ),
        (
            "  metrics: [mae]\n",
            "prune.auc",
            r"the recipe can measure accuracy \(classes\), accuracy and macro_f1 \(multilabel\) or mae \(regression\)$",
            "hold mae or mae_ratio instead",  # of one output that mae is of, nothing can be auc
        ),
        (
            "  metrics: [mae]\n",
            "prune.auc[kind]",
            r"or mae \(regression\) of output 'kind'",
            "add auc to data.metrics: [mae, accuracy, auc]",  # of several, each takes those of its task
        ),
        ("  metrics: ['mine:score']\n", "prune.auc", "the recipe measures score$", "data.metrics: [mine:score, auc]"),
        (
            "  task: classes\n  metrics: ['mine:score', accuracy, confusion_matrix]\n",
            "prune.auc",
            r"the recipe measures score and accuracy \(task classes\)",
            "data.metrics: [mine:score, accuracy, confusion_matrix, auc]",
        ),
        (
            "  task: classes\n  metrics: [confusion_matrix]\n",
            "prune.macro_f1",
            "will have no 'macro_f1': nothing is measured from labels$",
            "data.metrics: [confusion_matrix, macro_f1]",
        ),
        (
            "  metrics: {kind: [top_5], age: [mae]}\n",
            "prune.mse[age]",
            "of output 'age'",
            "data.metrics: {kind: [top_5], age: [mae, mse]}",
        ),
        ("  metrics: {age: [mae]}\n", "prune.mse", r"or mae \(regression\)$", "data.metrics: {age: [mae, mse]}"),
        ("  metrics: {kind: [top_5], age: [mae]}\n", "prune.auc", "can measure", "say auc[kind] or auc[age]"),
        ("  task: {age: regression}\n", "prune.auc[kind]", "of output 'kind'", "{kind: [accuracy, auc]}"),
    ],
)
def test_a_metric_that_the_recipe_will_not_measure_is_refused_with_what_to_add(
    recipe_file, chain, data, gate, what, hint
):
    with pytest.raises(RecipeError, match=what) as caught:
        chain(recipe_file, told(data), (GATE, gate))
    assert hint in caught.value.hint
    assert "recipe.yaml:" in caught.value.where
    _, adds, pasted = caught.value.hint.partition("data.metrics: ")
    if adds:
        others = "".join(line for line in data.splitlines(keepends=True) if "metrics" not in line)
        chain(recipe_file, told(f"{others}  metrics: {pasted}\n"), (GATE, gate))


@pytest.mark.parametrize(
    ("data", "gate"),
    [
        ("", "tflite/int8.mse_ratio"),  # labels will tell the task
        ("  metrics: [mae]\n", "prune.mae_ratio"),
        ("  task: regression\n  metrics: [mae]\n", "tflite/int8.mse"),  # verify measures it besides
        ("  task: regression\n  metrics: [mae]\n", "tflite/int8.mse_ratio_reference"),
        ("  task: regression\n  metrics: [mae, mse]\n", "tflite/int8.mse_ratio"),
        ("  task: {age: regression}\n", GATE + "[kind]"),
        ("  task: {age: regression}\n  metrics: {kind: [top_5]}\n", "prune.top_5_drop[kind]"),
        ("  task: classes\n  metrics: ['mine:score']\n", "prune.score"),
        ("  task: classes\n", "tflite/int8@cpu.latency_ratio"),
        ("  task: classes\n", "prune.macs_ratio"),
        ("  task: classes\n", "tflite/int8.size_bytes"),
    ],
)
def test_what_may_still_come_is_not_refused(recipe_file, chain, data, gate):
    built = chain(recipe_file, told(data), (GATE, gate))
    assert gate in [held.metric for held in built.recipe.gates]
    with pytest.raises(RecipeError, match="has no metric"):
        chain(recipe_file, told(data), (GATE, "prune.never"))
    with pytest.raises(RecipeError, match="will have no"):
        chain(recipe_file, told(data), (GATE, "prune.auc[kind]" if "[kind]" in gate else "prune.auc"))


def test_the_source_s_evaluation_tells_the_task_that_the_recipe_leaves_open(recipe_file, chain):
    built = chain(recipe_file, (GATE, "tflite/int8.mse_ratio"))
    check_gate_metrics(built, {"mse": 0.5, "mae": 0.5, **SOURCE})
    with pytest.raises(RecipeError, match="the recipe measures accuracy") as caught:
        check_gate_metrics(built, {"accuracy": 0.5, **SOURCE})
    assert "instead" in caught.value.hint


def test_a_function_alone_tells_no_task(recipe_file, chain):
    built = chain(recipe_file, told("  metrics: ['mine:score']\n"), (GATE, "tflite/int8.mse"))
    check_gate_metrics(built, {"score": 0.5, **SOURCE})
    with pytest.raises(RecipeError, match="tflite/int8 will have no 'mse'"):  # accuracy is of classes alone
        check_gate_metrics(built, {"accuracy": 0.5, **SOURCE})


def test_of_several_outputs_the_gate_has_to_name_one(recipe_file, chain):
    evaluated = {"accuracy[kind]": 0.5, "mse[age]": 0.5, "mae[age]": 0.5, **SOURCE}
    with pytest.raises(RecipeError, match="nothing is measured from labels without an output's name") as caught:
        check_gate_metrics(chain(recipe_file), evaluated)
    assert caught.value.hint == "say accuracy_drop[kind]"
    check_gate_metrics(chain(recipe_file, (GATE, f"{GATE}[kind]")), evaluated)
    with pytest.raises(RecipeError, match=r"the recipe measures mse and mae of output 'age' \(task regression\)"):
        check_gate_metrics(chain(recipe_file, (GATE, f"{GATE}[age]")), evaluated)
    with pytest.raises(RecipeError, match="nothing is measured from labels of output 'bare'"):
        check_gate_metrics(chain(recipe_file, (GATE, f"{GATE}[bare]")), evaluated)


def test_of_one_output_no_name_is_missed(recipe_file, chain):
    matrix = told("  metrics: [confusion_matrix]\n")
    built = chain(recipe_file, matrix, (GATE, "tflite/int8.mse_ratio"))
    with pytest.raises(RecipeError, match=r"nothing is measured from labels$"):
        check_gate_metrics(built, SOURCE)
    with pytest.raises(RecipeError, match="nothing is measured from labels without an output's name"):
        check_gate_metrics(built, {"accuracy[kind]": 0.5, **SOURCE})


def test_metrics_without_labels_need_no_output(recipe_file, chain):
    evaluated = {"accuracy[kind]": 0.5, **SOURCE}
    check_gate_metrics(chain(recipe_file, (GATE, "prune.macs_ratio")), evaluated)
    with pytest.raises(RecipeError, match="without an output's name"):
        check_gate_metrics(chain(recipe_file), evaluated)


def test_a_chain_that_ends_before_what_measures_a_gate_is_not_refused(recipe_file, chain):
    built = chain(recipe_file)
    with pytest.raises(RecipeError, match="the recipe measures mse and mae"):
        check_gate_metrics(built, {"mse": 0.5, "mae": 0.5, **SOURCE})
    built.nodes = [node for node in built.nodes if node.stage != "verify"]
    check_gate_metrics(built, {"mse": 0.5, "mae": 0.5, **SOURCE})
