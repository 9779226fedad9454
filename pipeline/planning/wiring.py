"""Turn a recipe into its actions: which feeds which, what fans out, and what the recipe implies without saying so.

Implied are: an evaluation of every Keras model if there is a test split, the control (the source fine-tuned as the
pruned model is), and for benchmarks the source exported in float32, the baseline of every latency.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import MakesFormats, MeasuresOnTarget, NamesTargets
from pipeline.contracts.stage import Input, StageConfig
from pipeline.data.spec import Metrics, named_metrics
from pipeline.errors import RecipeError
from pipeline.planning.chain import (
    REFERENCE,
    SOURCE,
    TEACHER,
    Branch,
    Chain,
    CodeOf,
    ModelFile,
    Node,
    OutputOf,
    Source,
    SplitOf,
    error_at,
)
from pipeline.planning.gate_names import check_gate_names
from pipeline.planning.label_needs import require_splits
from pipeline.recipe.model_files import load_settings, roles
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.steps import StageStep
from pipeline.recipe.user_code import code_input
from pipeline.records.artifacts import Kind


def build_chain(recipe: Recipe) -> Chain:
    """Build the recipe's actions; RecipeError if its stages don't fit together or a gate names nothing."""
    chain = Chain(recipe)
    first = recipe.steps[0]
    if first.stage != "load":
        raise error_at(recipe, first, f"{first.stage} has no model yet", "begin the stages with `- load`")
    for step in recipe.steps:
        match step.stage:
            case "load":
                _load(chain, step)
            case "quantize":
                _quantize(chain, step)
            case "export":
                _export(chain, step)
            case "verify":
                _verify(chain, step)
            case "benchmark":
                _benchmark(chain, step)
            case "finetune":
                _transform(chain, step)
                _control(chain, step)
            case _ if _taken_exports(step):
                _on_exports(chain, step)
            case _:
                _transform(chain, step)
    check_gate_names(chain)
    return chain


def _load(chain: Chain, step: StageStep) -> None:
    if chain.nodes:
        raise error_at(chain.recipe, step, "the model is loaded already", "one recipe takes one model")
    if step.config != type(step.config)():
        raise error_at(chain.recipe, step, "load has no settings here", "write them at the top, in `model: {…}`")
    settings = load_settings(chain.recipe.model)
    inputs: dict[str, Source] = {role: ModelFile(role) for role in roles(chain.recipe.model)}
    config = step.config.model_copy(update=settings)
    chain.model = chain.add(Node(step.id, "load", None, config, inputs, None, step.index))
    _evaluate(chain, SOURCE, step)


def _transform(chain: Chain, step: StageStep) -> None:
    """Add a stage from Keras model to Keras model: prune, finetune, strip, and third-party ones."""
    inputs = _model_inputs(chain, step, chain.model)
    made = chain.add(Node(step.id, step.stage, None, step.config, inputs, step.id, step.index))
    if "keras-model" in stages()[step.stage].outputs:
        chain.model = made
        _evaluate(chain, step.id, step)


def _taken_exports(step: StageStep) -> dict[str, tuple[Kind, ...]]:
    """Return the inputs of a step's stage that are exports: their names, with the kinds that it takes."""
    made = set(stages()["export"].outputs)
    found = {name: tuple(kind for kind in wanted.kinds if kind in made) for name, wanted in _inputs_of(step).items()}
    return {name: kinds for name, kinds in found.items() if kinds}


def _on_exports(chain: Chain, step: StageStep) -> None:
    """Add a third-party stage that takes exported files: an action for each export of a kind that it takes."""
    _need_exports(chain, step)
    (name, kinds), *_ = _taken_exports(step).items()
    taken = [branch for branch in chain.exported if _model_kind(branch) in kinds]
    if not taken:
        what = f"{step.stage} takes {' or '.join(kinds)}, and no export before it makes one"
        raise error_at(chain.recipe, step, what, "name its format under `export: {formats: […]}`")
    for branch in taken:
        inputs: dict[str, Source] = {name: OutputOf(branch.node, _model_kind(branch))}
        if REFERENCE in _inputs_of(step):
            inputs[REFERENCE] = OutputOf(branch.reference or chain.model, "keras-model")
        inputs |= _splits(chain, step.stage, step.config, step)
        axis = str(branch.axis)
        chain.add(Node(f"{step.id}:{axis}", step.stage, axis, step.config, inputs, axis, step.index))


def _inputs_of(step: StageStep) -> Mapping[str, Input]:
    return stages()[step.stage].inputs


def _control(chain: Chain, step: StageStep) -> None:
    """Add the control, the source fine-tuned the same way: as often as the recipe fine-tunes."""
    if not chain.recipe.control:
        return
    before = chain.control or chain.nodes[0].id
    repeats = sum(node.stage == "finetune" and node.name is None for node in chain.nodes)
    last = step.id == [s.id for s in chain.recipe.steps if s.stage == "finetune"][-1]
    node_id = "control" if last else f"control[{repeats + 1}]"
    name = "control" if last else None
    inputs = _model_inputs(chain, step, before)
    chain.control = chain.add(Node(node_id, "finetune", None, step.config, inputs, name, step.index))
    if last:
        _evaluate(chain, "control", step)


def _model_inputs(chain: Chain, step: StageStep, model: str) -> dict[str, Source]:
    stage = stages()[step.stage]
    inputs: dict[str, Source] = {}
    for name, wanted in stage.inputs.items():
        first = next((node for node in chain.nodes if node.stage == step.stage), None)
        if "keras-model" in wanted.kinds and name == "model":
            inputs[name] = OutputOf(model, "keras-model")
        elif name == SOURCE and first is not None:  # shares stay relative to the original model
            inputs[name] = first.inputs["model"]
        elif name == TEACHER and getattr(step.config, "distill", None) is not None:
            inputs[name] = OutputOf(chain.nodes[0].id, "keras-model")
        elif wanted.required:
            raise error_at(chain.recipe, step, f"{step.stage} needs {name}, which no stage before it makes", None)
    return inputs | _splits(chain, step.stage, step.config, step)


def _evaluate(chain: Chain, name: str, step: StageStep) -> None:
    """Add the evaluation of the model that was just made."""
    data = chain.recipe.data
    if data is None or data.test is None:
        return
    stage = stages()["evaluate"]
    checked = name == SOURCE and data.check_preprocess
    config = stage.config.model_validate({"metrics": data.metrics, "check_preprocess": checked})
    inputs = {
        "model": OutputOf(chain.nodes[-1].id, "keras-model"),
        **_splits(chain, "evaluate", config, step),
        **_code(data.metrics),
    }
    chain.add(Node(f"evaluate:{name}", "evaluate", None, config, inputs, name, step.index))


def _quantize(chain: Chain, step: StageStep) -> None:
    chain.quantized = []
    for name, config in step.config.by_element().items():
        chain.quantized.append(_quantized(chain, step, config, name, chain.model, f"{step.id}:{name}"))


def _quantized(chain: Chain, step: StageStep, config: StageConfig, name: str, model: str, node_id: str) -> Branch:
    inputs = {"model": OutputOf(model, "keras-model"), **_splits(chain, "quantize", config, step)}
    chain.add(Node(node_id, "quantize", name, config, inputs, None, step.index))
    return Branch(node_id, name, model, config)


def _export(chain: Chain, step: StageStep) -> None:
    if not chain.quantized:
        raise error_at(
            chain.recipe, step, "nothing is quantized yet", "add `- quantize: {schemes: [float32]}` before it"
        )
    settings = step.config.model_dump()
    chain.exported = []
    for target_format in settings["formats"]:
        for branch in chain.quantized:
            axis = f"{target_format}/{branch.axis}"
            stage = stages()["export"]
            reason = stage.unsupported(axis) or _export_stage().refuses(target_format, branch.config)
            if reason and settings["unsupported"] == "skip":
                chain.skipped[axis] = reason
            elif reason:
                hint = "leave it out, or set `unsupported: skip` under export"
                raise error_at(chain.recipe, step, f"{axis} can't be made: {reason}", hint)
            else:
                chain.exported.append(_exported(chain, step, target_format, branch, f"{step.id}:{axis}", axis, step))


def _exported(
    chain: Chain, step: StageStep, fmt: str, branch: Branch, node_id: str, name: str | None, wanted_by: StageStep
) -> Branch:
    config = step.config.by_element()[fmt].model_copy(update=_interface(chain, step))
    axis = f"{fmt}/{branch.axis}"
    inputs: dict[str, Source] = {"model": OutputOf(branch.node, "quantized-model")}
    optional = step.config.model_dump()["unsupported"] == "skip"
    chain.add(Node(node_id, "export", axis, config, inputs, name, wanted_by.index, optional))
    return Branch(node_id, axis, branch.reference, branch.config)


def _interface(chain: Chain, step: StageStep) -> dict[str, object]:
    """Describe a file's inputs and outputs as the data does, if the stage's settings leave them open."""
    data, settings, found = chain.recipe.data, step.config, dict[str, object]()
    if data is None:
        return found
    if getattr(settings, "labels", None) is None:
        found["labels"] = data.classes
        if data.source == "image_folder":
            from pipeline.data.image_folder import class_names

            found["labels"] = class_names(data, chain.recipe.folder)
    if getattr(settings, "preprocess", None) is None:
        found["preprocess"] = data.preprocess
    return found


def _verify(chain: Chain, step: StageStep) -> None:
    _need_exports(chain, step)
    metrics, config = getattr(step.config, "metrics", None), step.config
    if metrics is None and chain.recipe.data is not None:
        metrics = chain.recipe.data.metrics
        config = config.model_copy(update={"metrics": metrics})
    for branch in chain.exported:
        reason = stages()["verify"].unsupported(str(branch.axis))
        if reason:  # no setting could leave it out
            chain.skipped[f"verify of {branch.axis}"] = reason
            continue
        inputs: dict[str, Source] = {
            "export": OutputOf(branch.node, _model_kind(branch)),
            REFERENCE: OutputOf(branch.reference or chain.model, "keras-model"),
            **_splits(chain, "verify", config, step),
            **_code(metrics),
        }
        chain.add(Node(f"{step.id}:{branch.axis}", "verify", branch.axis, config, inputs, branch.axis, step.index))


def _code(metrics: Metrics | None) -> dict[str, Source]:
    """Return the modules of those metrics that are user-defined."""
    return {code_input(metric): CodeOf(metric) for metric in named_metrics(metrics) if ":" in metric}


def _benchmark(chain: Chain, step: StageStep) -> None:
    _need_exports(chain, step)
    settings = step.config.model_dump()
    optional = settings["unsupported"] == "skip"
    for branch in chain.exported:
        for target in settings["targets"]:
            axis = f"{branch.axis}@{target}"
            config = step.config.model_copy(update={"targets": (target,), "unsupported": "refuse"})
            kind = _model_kind(branch)
            reason = _refusal(chain, step, config, kind, branch)
            if reason and optional:
                chain.skipped[axis] = reason
                continue
            if reason:
                hint = "leave it out, or set `unsupported: skip` under benchmark"
                raise error_at(chain.recipe, step, f"{axis} can't be measured: {reason}", hint)
            baseline = _baseline(chain, step, str(branch.axis).partition("/")[0])
            inputs: dict[str, Source] = {"export": OutputOf(branch.node, kind), "baseline": OutputOf(baseline, kind)}
            chain.add(Node(f"{step.id}:{axis}", "benchmark", axis, config, inputs, axis, step.index, optional))


def _refusal(chain: Chain, step: StageStep, config: StageConfig, kind: Kind, branch: Branch) -> str | None:
    """Return why the stage's target can't take such a file, or None; RecipeError if there is no such target."""
    stage = stages()["benchmark"]
    assert isinstance(stage, MeasuresOnTarget)
    try:
        return stage.refuses(config, kind, chain.recipe.folder, branch.config)
    except RecipeError as error:
        if error.where:
            raise
        raise RecipeError(
            error.what, where=where_of_target(chain.recipe, step, "benchmark", config), hint=error.hint
        ) from error


def where_of_target(recipe: Recipe, step: StageStep, stage: str, config: StageConfig) -> str:
    """Locate the target of an action of `stage` in a recipe's step; if the step names none, locate the step."""
    found = stages()[stage]
    named = found.targets_of(config) if isinstance(found, NamesTargets) else ()
    return recipe.source.where_is(named[0], step.path) if named else recipe.source.where(step.path)


def _baseline(chain: Chain, step: StageStep, fmt: str) -> str:
    """Return the node that exports the source in float32 in this format, made when first needed."""
    node_id = f"baseline:{fmt}"
    known = {node.id for node in chain.nodes}
    if node_id in known:
        return node_id
    quantized = Branch("baseline", "float32", chain.nodes[0].id)
    if quantized.node not in known:
        config = stages()["quantize"].config.model_validate({"schemes": ("float32",)})
        _quantized(chain, step, config, "float32", chain.nodes[0].id, quantized.node)
    export = next(s for s in reversed(chain.recipe.steps[: step.index]) if s.stage == "export")
    return _exported(chain, export, fmt, quantized, node_id, None, step).node


def _model_kind(branch: Branch) -> Kind:
    return _export_stage().kind_for(str(branch.axis))


def _export_stage() -> MakesFormats:
    stage = stages()["export"]
    assert isinstance(stage, MakesFormats)
    return stage


def _need_exports(chain: Chain, step: StageStep) -> None:
    if not chain.exported:
        raise error_at(chain.recipe, step, "nothing is exported yet", "add `- export: {formats: [tflite]}` before it")


def _splits(chain: Chain, stage: str, config: StageConfig, step: StageStep) -> dict[str, Source]:
    return {split: SplitOf(split) for split in require_splits(chain.recipe, stage, config, step)}
