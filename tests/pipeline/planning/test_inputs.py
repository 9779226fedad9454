import pytest

from pipeline.errors import RecipeError
from pipeline.planning.chain import ModelFile, OutputOf, SplitOf
from pipeline.planning.wiring import build_chain
from pipeline.recipe.recipe import Recipe


def node(built, name):
    return next(node for node in built.nodes if node.id == name)


def test_inputs_come_from_whoever_made_them(recipe_file, chain):
    built = chain(recipe_file)
    assert node(built, "load").inputs == {"file": ModelFile("file")}
    assert node(built, "finetune").inputs["model"] == OutputOf("prune", "keras-model")
    assert node(built, "control").inputs["model"] == OutputOf("load", "keras-model")
    assert node(built, "finetune").inputs["validation"] == SplitOf("validation")
    assert node(built, "verify:onnx/int8").inputs["reference"] == OutputOf("strip", "keras-model")
    assert node(built, "benchmark:onnx/int8@cpu").inputs["baseline"] == OutputOf("baseline:onnx", "onnx-model")
    assert node(built, "baseline").inputs == {"model": OutputOf("load", "keras-model")}
    assert node(built, "quantize:int8").inputs["calibration"] == SplitOf("calibration")
    assert "calibration" not in node(built, "quantize:float32").inputs


def test_inputs_of_a_node_are_made_before_it(recipe_file, chain):
    seen = set()
    for n in chain(recipe_file).nodes:
        assert {s.node for s in n.inputs.values() if isinstance(s, OutputOf)} <= seen
        seen.add(n.id)


def test_without_a_benchmark_there_is_no_baseline(recipe_file, chain):
    built = chain(recipe_file, ("  - benchmark\n", ""))
    assert not [n for n in built.nodes if n.id.startswith("baseline")]


def test_the_source_teaches_where_it_is_asked_to(recipe_file, chain):
    assert "teacher" not in node(chain(recipe_file), "finetune").inputs
    built = chain(recipe_file, ("{epochs: 1}", "{epochs: 1, distill: {temperature: 4}}"))
    for name in ("finetune", "control"):
        assert node(built, name).inputs["teacher"] == OutputOf("load", "keras-model")


def test_what_the_first_prune_took_teaches(repeated, recipe_file, chain):
    """What comes before a prune may better the source, as training on other data does; a step of pruning does not."""
    before = chain(
        recipe_file,
        ("  - load\n", "  - load\n  - recalibrate\n"),
        ("{epochs: 1}", "{epochs: 1, distill: {temperature: 4}}"),
    )
    for name in ("finetune", "control"):
        assert node(before, name).inputs["teacher"] == OutputOf("recalibrate", "keras-model")
    steps = build_chain(repeated(old="finetune: {", new="finetune: {distill: {}, "))
    taught = [n.inputs["teacher"] for n in steps.nodes if n.id.startswith("finetune[")]
    assert len(taught) > 1
    assert set(taught) == {OutputOf("load", "keras-model")}


def test_data_that_a_stage_needs_and_the_recipe_lacks_is_asked_for(recipe_file):
    text = "name: x\nmodel: model.keras\nstages:\n  - load\n  - finetune\n"
    with pytest.raises(RecipeError, match="finetune needs data"):
        build_chain(Recipe.load(recipe_file(text=text)))


def test_metrics_are_left_to_the_task_where_the_recipe_names_none(recipe_file, chain):
    built = chain(recipe_file)
    assert node(built, "evaluate:source").config.metrics is None
    assert not [name for n in built.nodes for name in n.inputs if name.startswith("module")]


def test_each_step_goes_by_the_source_and_feeds_the_next(repeated):
    nodes = {node.id: node for node in build_chain(repeated()).nodes}
    assert nodes["prune[1]"].inputs == {"model": OutputOf("load", "keras-model")}
    assert nodes["prune[2]"].inputs == {
        "model": OutputOf("finetune[1]", "keras-model"),
        "source": OutputOf("load", "keras-model"),
    }
    assert nodes["strip"].inputs["model"] == OutputOf("finetune[3]", "keras-model")
    assert [name for name in nodes if name.startswith("control")] == ["control[1]", "control[2]", "control"]


PRUNED = ("  - prune: {ratio: 0.5}\n", "  - prune: {ratio: 0.5}\n  - reconstruct\n")


def test_what_the_nearest_prune_took_is_the_source_of_reconstruction(recipe_file, chain):
    built = chain(recipe_file, PRUNED)
    assert node(built, "reconstruct").inputs == {
        "model": OutputOf("prune", "keras-model"),
        "report": OutputOf("prune", "prune-report"),
        "source": OutputOf("load", "keras-model"),
        "calibration": SplitOf("calibration"),
    }
    assert node(built, "finetune").inputs["model"] == OutputOf("reconstruct", "keras-model")
    assert [n.id for n in built.nodes if n.stage == "evaluate" and "reconstruct" in n.id] == ["evaluate:reconstruct"]


def test_in_a_repeat_it_is_what_the_prune_of_the_same_round_took(repeated):
    old, new = "- finetune: {epochs: 1}", "- reconstruct: {data_split: train}\n        - finetune: {epochs: 1}"
    nodes = {node.id: node for node in build_chain(repeated(old=old, new=new)).nodes}
    assert nodes["reconstruct[1]"].inputs["source"] == OutputOf("load", "keras-model")
    assert nodes["reconstruct[3]"].inputs == {
        "model": OutputOf("prune[3]", "keras-model"),
        "report": OutputOf("prune[3]", "prune-report"),
        "source": OutputOf("finetune[2]", "keras-model"),
        "train": SplitOf("train"),
    }


def test_after_training_and_a_second_time_it_is_still_that_of_the_prune(recipe_file, chain):
    later = "  - prune: {ratio: 0.5}\n  - reconstruct\n  - recalibrate\n  - reconstruct: {samples: 99}\n"
    built = chain(recipe_file, (PRUNED[0], later))
    second = node(built, "reconstruct[2]").inputs
    assert second["model"] == OutputOf("recalibrate", "keras-model")
    assert (second["report"], second["source"]) == (
        OutputOf("prune", "prune-report"),
        OutputOf("load", "keras-model"),
    )


@pytest.mark.parametrize("before", ["", "  - prune: {method: unstructured, ratio: 0.5}\n"])
def test_without_channels_that_went_there_is_nothing_to_reconstruct(recipe_file, chain, before):
    with pytest.raises(RecipeError, match="reconstruct needs report, which no stage before it makes") as caught:
        chain(recipe_file, (PRUNED[0], f"{before}  - reconstruct\n"))
    assert caught.value.hint == "it takes prune-report: put `- prune` before it (settings of prune say what it makes)"
    assert caught.value.where.endswith(f"stages[{2 if before else 1}]")


def test_reconstruction_asks_for_data(recipe_file):
    text = "name: x\nmodel: model.keras\nstages: [load, prune: {ratio: 0.5}, reconstruct]\n"
    with pytest.raises(RecipeError, match="reconstruct needs data"):
        build_chain(Recipe.load(recipe_file(text=text)))
