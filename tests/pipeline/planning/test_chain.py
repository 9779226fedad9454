import pytest

from pipeline.contracts.stage import StageConfig
from pipeline.errors import RecipeError
from pipeline.planning.chain import Branch, Chain, Node
from pipeline.recipe.recipe import Recipe


def test_one_stage_makes_each_name_once_and_several_may_share_it(recipe_file):
    chain = Chain(Recipe.load(recipe_file()))
    step = next(step for step in chain.recipe.steps if step.stage == "verify")
    export, verify, unnamed = (
        Node(stage, stage, "onnx/int8", StageConfig(), {}, name, step.index)
        for stage, name in (("export", "onnx/int8"), ("verify", "onnx/int8"), ("baseline", None))
    )
    assert [chain.add(node) for node in (export, verify, unnamed, unnamed)] == [export, verify, unnamed, unnamed]
    assert chain.names() == ["onnx/int8"]
    with pytest.raises(RecipeError, match="verify has made onnx/int8 before") as caught:
        chain.add(verify)
    assert caught.value.where.endswith(f"stages[{step.index}]")
    assert len(chain.nodes) == 4


def test_what_a_stage_makes_can_follow_from_its_settings(recipe_file, chain):
    def kinds(method):
        built = chain(recipe_file, ("prune: {ratio: 0.5}", f"prune: {{ratio: 0.5, method: {method}}}"))
        return Branch(next(node for node in built.nodes if node.id == "prune")).kinds

    assert kinds("structured") == ("keras-model", "prune-report")
    assert kinds("unstructured") == ("keras-model", "sparsity-report")
