import pytest

from pipeline.errors import RecipeError


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


def test_an_action_s_configuration_holds_only_its_own_axis_element(recipe_file, chain):
    built = chain(recipe_file)
    assert list(node(built, "quantize:int8").config.variants) == ["int8"]
    assert node(built, "export:onnx/int8").config.formats == ("onnx",)
    assert node(built, "benchmark:onnx/int8@cpu").config.targets == ("cpu",)


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
    assert node(built, "quantize:ladder").inputs.keys() == {"model", "calibration", "validation"}
    assert node(built, "quantize:ladder").config.schemes is None
    assert not node(built, "quantize:int8").config.ladder
    assert {"tflite/ladder", "tflite/ladder@cpu", "tflite/int8"} <= set(built.names())


def test_verify_may_have_metrics_of_its_own(recipe_file, chain):
    built = chain(recipe_file, ("  - verify\n", "  - verify: {metrics: [auc]}\n"))
    assert node(built, "verify:tflite/int8").config.metrics == ("auc",)
    assert node(built, "evaluate:strip").config.metrics is None
