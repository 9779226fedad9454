import json
import subprocess
import sys

import numpy as np
import pytest

from pipeline.contracts.events import Advanced
from pipeline.contracts.stage import StageResult
from pipeline.data import Preprocess, Split
from pipeline.errors import DataError, ModelError, PostconditionError, PreconditionError
from pipeline.records.artifacts import Artifact
from stages.keras.normal_form import decode_model
from stages.keras.regression.refit import LayerFit
from stages.keras.sparsity import PLAN_FILE
from stages.prune.facts import PruneFacts
from stages.reconstruct import stage as stage_module
from stages.reconstruct.config import ReconstructConfig
from stages.reconstruct.stage import ReconstructStage

STAGE = ReconstructStage()


def unlabelled(x, name="calibration"):
    return Split(name, "sha256:0", x, None, Preprocess(), "unlabelled")


@pytest.fixture
def made(make_context, small, images):
    """Return a context after prune: its model, its report, and what it took."""

    def make(data=images, model=None, source=None, seed=5, **settings):
        config = ReconstructConfig(**settings)
        context = make_context(config, splits={config.data_split: unlabelled(data, config.data_split)}, seed=seed)
        file = context.write("prune-report.json", small.report.to_json(), "application/json")
        facts = PruneFacts(groups=1, frozen_groups=0, channels_before=8, channels_after=4, equivalence_error=0.0)
        context.inputs = {
            "model": context.write_model(model or small.pruned),
            "source": context.write_model(source or small.source),
            "report": Artifact(files=(file,), facts=facts),
        }
        return context

    return make


def test_a_model_and_a_report_come_out(made, small, images):
    context = made(positions=20)
    assert STAGE.splits(context.config) == ("calibration",)
    STAGE.requires(context.config, context.inputs)
    result = STAGE.run(context)
    STAGE.ensures(context, result)
    model, document = result.outputs
    assert (model.kind, document.kind) == STAGE.outputs
    assert result.metrics.keys() == {metric.name for metric in STAGE.metrics}
    assert result.metrics["output_error"] < 0.3 * result.metrics["output_error_before"]
    facts = document.facts
    assert (facts.layers, facts.fitted, facts.taken_back) == (4, result.metrics["layers_fitted"], 0)
    assert (facts.output_error_before, facts.output_error_after) == (
        result.metrics["output_error_before"],
        result.metrics["output_error"],
    )
    assert not result.resumed
    loaded = decode_model(context.stored(model.files[0]))
    assert (
        np.square(loaded(images) - small.source(images)).mean()
        < 0.5 * np.square(small.pruned(images) - small.source(images)).mean()
    )
    report = json.loads(context.stored(document.files[0]).read_bytes())
    assert report["schema_version"] == 1
    assert [layer["layer"] for layer in report["layers"]] == ["stem", "separable", "conv", "head"]
    assert model.facts.params == small.pruned.count_params()


def test_it_is_deterministic_and_tells_how_far_it_is(made):
    context = made()
    digests = [output.digest for output in STAGE.run(context).outputs]
    assert context.progress == [(done, 5) for done in (1, 2, 3, 4, 5)]
    assert next(event.detail for event in context.heard if isinstance(event, Advanced)) == "source 1/5"
    again = STAGE.run(context)
    assert again.resumed  # from the scratch of the first, which only the engine deletes
    assert [output.digest for output in again.outputs] == digests
    other = made(seed=6)
    for path in other.work_dir.glob("step-*"):
        path.unlink()
    assert STAGE.run(other).outputs[1].digest != digests[1]


def test_models_that_others_hold_stay_as_they_are(made, small):
    context = made()
    before = {name: context.inputs[name].digest for name in ("model", "source")}
    STAGE.run(context)
    assert context.write_model(small.pruned).digest == before["model"]
    assert context.write_model(small.source).digest == before["source"]


def test_too_few_positions_are_told_with_the_samples_that_would_do(made, images):
    context = made(images[:20], positions=1)
    STAGE.run(context)
    (warning,) = context.warnings
    assert "was fitted from 16 positions and has 36 weights for each output: 45 samples would determine them" in warning


def test_data_is_looked_at_first(made, images):
    broken = images.copy()
    broken[7, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="sample 7 of the calibration split holds NaN"):
        STAGE.run(made(broken))
    with pytest.raises(DataError, match="does not fit the model"):
        STAGE.run(made(images[..., :1]))
    with pytest.raises(PreconditionError, match="9 samples are too few") as caught:
        STAGE.run(made(images[:9], data_split="train"))
    assert caught.value.where == "reconstruct.data_split train"


def test_layers_that_are_not_finite_are_named(made, small):
    small.pruned.get_layer("conv").bias.assign([np.nan] * 4)
    with pytest.raises(ModelError) as caught:
        STAGE.run(made())
    assert caught.value.where == "conv"


def test_another_source_is_refused(made, small, keras):
    model = keras.Sequential([keras.Input((6, 6, 2)), keras.layers.Flatten(), keras.layers.Dense(3)])
    with pytest.raises(PreconditionError, match="is not in the"):
        STAGE.run(made(source=model))


def test_single_weights_that_are_zero_are_refused(made):
    context = made()
    model = context.inputs["model"]
    plan = context.write(PLAN_FILE, b"{}", "application/json")
    with pytest.raises(PreconditionError, match="new weights would not be") as caught:
        STAGE.requires(context.config, {"model": Artifact(files=(*model.files, plan), facts=model.facts)})
    assert "before the unstructured prune" in caught.value.hint


@pytest.mark.parametrize(("after", "match"), [(0.6, "rose from 0.5 to 0.6"), (float("nan"), "not finite")])
def test_an_error_that_rose_fails_the_stage(made, after, match):
    result = StageResult((), {"output_error_before": 0.5, "output_error": after})
    with pytest.raises(PostconditionError, match=match):
        STAGE.ensures(made(), result)


def test_layers_taken_back_and_layers_of_other_kinds_are_told():
    from stages.reconstruct.report import ReconstructionReport

    fits = [
        LayerFit(layer=f"conv{n}", unknowns=4, rows=9, error_before=1, error_after=0.5, kept=True, taken_back=n < 4)
        for n in range(6)
    ]
    report = ReconstructionReport(
        samples=10,
        held_out=2,
        output_error_before=1,
        output_error_after=1,
        layers=tuple(fits),
        not_fitted={"lstm": "LSTM", "gru": "GRU", "other": "LSTM"},
    )
    back, kinds = stage_module._remarks(report)
    assert back.startswith("conv0, conv1, conv2 and 1 more kept the weights from before")
    assert kinds == "lstm, gru, other read fewer channels and can't be fitted: LSTM, GRU"
    facts = stage_module._facts(report)
    assert (facts.layers, facts.fitted, facts.taken_back) == (6, 2, 4)


def test_the_stage_is_listed_without_tensorflow():
    code = (
        "import sys; from pipeline.contracts.discovery import stages; s = stages()['reconstruct']; "
        "assert s.config().samples == 1024; assert not {'tensorflow', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
