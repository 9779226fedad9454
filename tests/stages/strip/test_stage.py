from dataclasses import replace

import pytest

from pipeline.errors import PostconditionError
from stages.keras.tensorflow import import_keras
from stages.strip.stage import StripConfig, StripStage


def run(make_context, model, **settings):
    context = make_context(StripConfig(**settings))
    context.inputs = {"model": context.write_model(model)}
    result = StripStage().run(context)
    return context, result


def test_what_was_removed_and_folded_is_told_in_facts_and_metrics(make_context, tiny_xception):
    context, result = run(make_context, tiny_xception, fold_batch_norm=True)
    StripStage().ensures(context, result)
    model, report = result.outputs
    assert (model.kind, report.kind, report.files) == ("keras-model", "strip-report", ())
    assert report.facts.folded == ("stem_bn into stem", "separable_bn into separable")
    assert report.facts.removed == report.facts.kept == ()
    assert result.metrics["folded"] == 2
    assert 0 < result.metrics["output_difference"] < 1e-5
    before = context.inputs["model"].facts.params
    assert model.facts.params == before - 2 * 4 * 40 + 2 * 40  # eight vectors of statistics go, two biases come


def test_a_model_with_nothing_to_strip_comes_out_as_it_was(make_context, tiny_xception):
    context, result = run(make_context, tiny_xception)
    assert result.outputs[0].digest == context.inputs["model"].digest
    assert result.metrics == {"removed": 0, "folded": 0, "output_difference": 0}


def test_stripping_may_change_no_output(make_context):
    keras = import_keras()
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.1), keras.layers.Dense(2)])
    context, result = run(make_context, model)
    StripStage().ensures(context, result)
    assert result.outputs[1].facts.removed[0].endswith(": Dropout")
    for difference in (2e-6, float("nan")):
        result.metrics["output_difference"] = difference
        with pytest.raises(PostconditionError, match=r"stripping changed the outputs by .*, allowed is 1e-06"):
            StripStage().ensures(context, result)


@pytest.mark.parametrize("told", [{"folded": ("bn into conv",)}, {"removed": ("lstm: recurrent_dropout",)}], ids=str)
def test_what_rounds_otherwise_has_a_wider_tolerance(make_context, told):
    keras = import_keras()
    context, result = run(make_context, keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    facts = result.outputs[1].facts.model_copy(update=told)
    outputs = (result.outputs[0], result.outputs[1].model_copy(update={"facts": facts}))
    StripStage().ensures(
        context, replace(result, outputs=outputs, metrics=result.metrics | {"output_difference": 9e-6})
    )
    with pytest.raises(PostconditionError, match="allowed is 1e-05"):
        StripStage().ensures(
            context, replace(result, outputs=outputs, metrics=result.metrics | {"output_difference": 2e-5})
        )
