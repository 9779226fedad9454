import pytest

from pipeline.errors import RecipeError
from pipeline.planning.chain import CodeOf, ModelFile, OutputOf, SplitOf
from pipeline.planning.wiring import build_chain
from pipeline.recipe.recipe import Recipe


def node(built, name):
    return next(node for node in built.nodes if node.id == name)


def test_the_chain_is_the_design_s_with_what_is_implied(recipe_file, chain):
    built = chain(recipe_file)
    assert [n.id for n in built.nodes] == [
        "load",
        "evaluate:source",
        "prune",
        "evaluate:prune",
        "finetune",
        "evaluate:finetune",
        "control",
        "evaluate:control",
        "strip",
        "evaluate:strip",
        "quantize:float32",
        "quantize:int8",
        "export:tflite/float32",
        "export:tflite/int8",
        "export:onnx/float32",
        "export:onnx/int8",
        "verify:tflite/float32",
        "verify:tflite/int8",
        "verify:onnx/float32",
        "verify:onnx/int8",
        "baseline",
        "baseline:tflite",
        "benchmark:tflite/float32@cpu",
        "benchmark:tflite/int8@cpu",
        "baseline:onnx",
        "benchmark:onnx/float32@cpu",
        "benchmark:onnx/int8@cpu",
    ]


def test_exports_are_told_what_the_data_says_of_inputs_and_classes(recipe_file, chain):
    built = chain(recipe_file, ("  path: data.npz\n", "  path: data.npz\n  preprocess: {mode: tf}\n"))
    for name in ("export:tflite/int8", "export:onnx/float32", "baseline:onnx"):
        config = node(built, name).config
        assert config.preprocess.mode == "tf"
        assert config.labels is None  # arrays name no classes
    own = "{formats: [tflite, onnx], preprocess: {scale: 2.0}, labels: [a, b]}"
    built = chain(recipe_file, ("{formats: [tflite, onnx]}", own))
    config = node(built, "export:tflite/int8").config
    assert (config.preprocess.scale, config.labels) == (2.0, ("a", "b"))


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


def test_an_action_s_configuration_holds_only_its_own_axis_element(recipe_file, chain):
    built = chain(recipe_file)
    assert list(node(built, "quantize:int8").config.variants) == ["int8"]
    assert node(built, "export:onnx/int8").config.formats == ("onnx",)
    assert node(built, "benchmark:onnx/int8@cpu").config.targets == ("cpu",)


def test_inputs_of_a_node_are_made_before_it(recipe_file, chain):
    seen = set()
    for n in chain(recipe_file).nodes:
        assert {s.node for s in n.inputs.values() if isinstance(s, OutputOf)} <= seen
        seen.add(n.id)


def test_without_a_test_split_nothing_is_evaluated(recipe_file, chain):
    built = chain(
        recipe_file, ("  test: test\n", ""), ("  - verify\n", ""), ("tflite/int8.accuracy_drop", "prune.params")
    )
    assert not [n for n in built.nodes if n.stage == "evaluate"]


def test_without_a_benchmark_there_is_no_baseline(recipe_file, chain):
    built = chain(recipe_file, ("  - benchmark\n", ""))
    assert not [n for n in built.nodes if n.id.startswith("baseline")]


def test_a_control_is_tuned_as_often_as_the_model_is(recipe_file, chain):
    twice = ("  - strip\n", "  - prune: {ratio: 0.2}\n  - finetune: {epochs: 2}\n  - strip\n")
    built = chain(recipe_file, twice)
    assert [n.id for n in built.nodes if n.stage == "finetune"] == [
        "finetune[1]",
        "control[1]",
        "finetune[2]",
        "control",
    ]
    assert node(built, "control").inputs["model"] == OutputOf("control[1]", "keras-model")
    assert node(built, "control").config.epochs == 2
    assert node(built, "prune[2]").inputs["model"] == OutputOf("finetune[1]", "keras-model")


def test_the_source_teaches_where_it_is_asked_to(recipe_file, chain):
    assert "teacher" not in node(chain(recipe_file), "finetune").inputs
    built = chain(recipe_file, ("{epochs: 1}", "{epochs: 1, distill: {temperature: 4}}"))
    for name in ("finetune", "control"):
        assert node(built, name).inputs["teacher"] == OutputOf("load", "keras-model")


@pytest.mark.parametrize(
    ("replace", "words"),
    [
        (("  - load\n", ""), "prune has no model yet"),
        (("  - strip\n", "  - load\n"), "loaded already"),
        (
            ("  - export: {formats: [tflite, onnx]}\n", ""),
            "verify takes .* or [a-z-]+, and nothing before it makes one",
        ),
        (
            ("  - quantize: {schemes: [float32, int8]}\n", ""),
            "export takes quantized-model, and nothing before it makes one",
        ),
        (("tflite/int8.accuracy_drop", "tflite/int4.accuracy"), "nothing here is called 'tflite/int4'"),
        (("tflite/int8.accuracy_drop", "accuracy"), "nothing here is called"),
        (("tflite/int8.accuracy_drop", "tflite/int8.acuracy"), "has no metric 'acuracy'"),
        (("  - verify\n", "  - verify\n  - export: {formats: [onnx]}\n"), "one name can't stand for two results"),
        (("  - load\n", "  - load: {application: {application: Xception}}\n"), "load has no settings here"),
    ],
)
def test_stages_that_do_not_follow_from_each_other_are_refused(recipe_file, replace, words, chain):
    with pytest.raises(RecipeError, match=words) as caught:
        chain(recipe_file, replace)
    assert "recipe.yaml:" in caught.value.where


def test_variants_of_a_scheme_are_told_apart_by_name(recipe_file, chain):
    entry = "{int8-small: {scheme: int8, granularity: per_tensor}}"
    built = chain(recipe_file, ("[float32, int8]", f"[float32, int8, {entry}]"))
    for name in ("quantize:int8-small", "export:tflite/int8-small", "verify:onnx/int8-small"):
        assert node(built, name)
    assert node(built, "quantize:int8-small").config.quantization.granularity == "per_tensor"
    assert node(built, "quantize:int8").config.quantization.granularity is None
    assert "onnx/int8-small@cpu" in built.names()


def test_a_scheme_that_a_format_lacks_is_refused_or_skipped_with_the_reason(recipe_file, chain):
    wide = ("[float32, int8]", "[float32, int8, int16x8, {u8: {scheme: int8, activations: unsigned}}]")
    with pytest.raises(
        RecipeError, match=r"export of tflite/u8 is impossible: activations of TFLite's int8 are signed"
    ):
        chain(recipe_file, wide)
    built = chain(recipe_file, wide, ("{formats: [tflite, onnx]}", "{formats: [tflite, onnx], unsupported: skip}"))
    assert sorted(built.skipped) == ["onnx/int16x8", "tflite/u8"]
    assert "16-bit" in built.skipped["onnx/int16x8"]
    assert {"tflite/int16x8", "onnx/u8"} <= set(built.names())


def test_what_may_be_left_out_is_said_of_the_action_and_changes_no_key(recipe_file, chain):
    plain = chain(recipe_file)
    lenient = chain(
        recipe_file, ("onnx]}", "onnx], unsupported: skip}"), ("  - benchmark", "  - benchmark: {unsupported: skip}")
    )
    assert [one.config for one in lenient.nodes] == [one.config for one in plain.nodes]
    assert not [one.id for one in plain.nodes if one.can_be_left_out]
    optional = {one.id.partition(":")[0] for one in lenient.nodes if one.can_be_left_out}
    assert optional == {"export", "baseline", "benchmark"}


def test_a_ladder_is_one_element_in_the_format_that_it_measures(recipe_file, chain):
    ladder = ("{schemes: [float32, int8]}", "{schemes: [int8], ladder: [int8, float16], max_accuracy_drop: 0.01}")
    with pytest.raises(RecipeError, match="export of onnx/ladder is impossible: the ladder measures tflite"):
        chain(recipe_file, ladder)
    built = chain(recipe_file, ladder, ("{formats: [tflite, onnx]}", "{formats: [tflite]}"))
    assert node(built, "quantize:ladder").inputs.keys() == {"model", "calibration", "test"}
    assert node(built, "quantize:ladder").config.schemes is None
    assert not node(built, "quantize:int8").config.ladder
    assert {"tflite/ladder", "tflite/ladder@cpu", "tflite/int8"} <= set(built.names())


def test_data_that_a_stage_needs_and_the_recipe_lacks_is_asked_for(recipe_file):
    text = "name: x\nmodel: model.keras\nstages:\n  - load\n  - finetune\n"
    with pytest.raises(RecipeError, match="finetune needs data"):
        build_chain(Recipe.load(recipe_file(text=text)))


def test_evaluations_get_the_recipe_s_metrics_and_the_user_s_modules(recipe_file, chain):
    with_metrics = ("  test: test\n", '  test: test\n  metrics: [top_2, confusion_matrix, "mine:spread"]\n')
    gate = ('"tflite/int8.accuracy_drop", max: 0.5', '"tflite/int8.top_2_drop", max: 0.5')
    built = chain(recipe_file, with_metrics, gate)
    for name in ("evaluate:source", "evaluate:strip", "verify:onnx/int8"):
        found = node(built, name)
        assert found.config.metrics == ("top_2", "confusion_matrix", "mine:spread")
        assert found.inputs["module mine"] == CodeOf("mine:spread")
    chain(recipe_file, with_metrics, (gate[0], '"strip.spread", max: 0.5'))
    with pytest.raises(RecipeError, match="strip has no metric 'confusion_matrix'"):
        chain(recipe_file, with_metrics, (gate[0], '"strip.confusion_matrix", max: 0.5'))


def test_metrics_are_left_to_the_task_where_the_recipe_names_none(recipe_file, chain):
    built = chain(recipe_file)
    assert node(built, "evaluate:source").config.metrics is None
    assert not [name for n in built.nodes for name in n.inputs if name.startswith("module")]


def test_verify_may_have_metrics_of_its_own(recipe_file, chain):
    built = chain(recipe_file, ("  - verify\n", "  - verify: {metrics: [auc]}\n"))
    assert node(built, "verify:tflite/int8").config.metrics == ("auc",)
    assert node(built, "evaluate:strip").config.metrics is None


def test_only_the_source_is_held_against_chance(recipe_file, chain):
    built = chain(recipe_file)
    checked = {n.id: n.config.check_preprocess for n in built.nodes if n.stage == "evaluate"}
    assert {name for name, on in checked.items() if on} == {"evaluate:source"}
    assert len(checked) > 1
    built = chain(recipe_file, ("  test: test\n", "  test: test\n  check_preprocess: false\n"))
    assert not node(built, "evaluate:source").config.check_preprocess


def test_each_step_goes_by_the_source_and_feeds_the_next(repeated):
    nodes = {node.id: node for node in build_chain(repeated()).nodes}
    assert nodes["prune[1]"].inputs == {"model": OutputOf("load", "keras-model")}
    assert nodes["prune[2]"].inputs == {
        "model": OutputOf("finetune[1]", "keras-model"),
        "source": OutputOf("load", "keras-model"),
    }
    assert nodes["strip"].inputs["model"] == OutputOf("finetune[3]", "keras-model")
    assert [name for name in nodes if name.startswith("control")] == ["control[1]", "control[2]", "control"]
