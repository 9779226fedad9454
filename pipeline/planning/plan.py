"""Plan what would run, and why: look up every node of the chain in the store, without importing what runs it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from pipeline.contracts.discovery import stages
from pipeline.contracts.hooks import (
    AsksForSamples,
    DependsByAxis,
    DependsBySettings,
    DependsOnDevice,
    MeasuresOnTarget,
)
from pipeline.contracts.stage import StageConfig
from pipeline.data import DataSource, data_source
from pipeline.errors import DeviceError, RecipeError
from pipeline.planning.cache_misses import failed_before, reason_to_run
from pipeline.planning.chain import Chain, CodeOf, ModelFile, Node, OutputOf, SplitOf, where_of_target
from pipeline.planning.wiring import build_chain
from pipeline.recipe.errors import nearest
from pipeline.recipe.model_files import digest_of_model, find_files
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.user_code import code_digest
from pipeline.records.artifacts import Artifact
from pipeline.records.keys import digest_of_file
from pipeline.records.manifest import BASELINE, Action, ActionRecord, Fingerprint, Plan, PlannedAction
from pipeline.store import Store
from pipeline.store.file_digests import FileDigests
from pipeline.system.installed import package_version


@dataclass
class Resolution:
    """Hold the chain with everything known so far: results by node, the data, the model's files by their roles."""

    recipe: Recipe
    chain: Chain
    data: DataSource | None
    model_files: Mapping[str, Path]
    digests: FileDigests
    results: dict[str, ActionRecord] = field(default_factory=dict)
    causes: dict[str, str] = field(default_factory=dict)  # node: the first node upstream that is not a hit, or itself
    forced: frozenset[str] = frozenset()  # nodes that run again whatever is recorded
    remarks: tuple[str, ...] = ()  # what the user should know about the targets that the recipe names

    def action(self, node: Node) -> Action | None:
        """Return the action of a node, or None while an input of it is not made."""
        if any(isinstance(s, OutputOf) and s.node not in self.results for s in node.inputs.values()):
            return None
        inputs = self.given(node) | {name: artifact.digest for name, artifact in self.artifacts(node).items()}
        return make_action(node.stage, node.config, node.axis, inputs, self.recipe)

    def given(self, node: Node) -> dict[str, str]:
        """Return the digests of the inputs that no other node makes: data splits, the user's modules, model files."""
        return {name: self._digest(origin) for name, origin in node.inputs.items() if not isinstance(origin, OutputOf)}

    def artifacts(self, node: Node) -> dict[str, Artifact]:
        """Return the input artifacts of a node whose inputs are all made."""
        sources = {name: source for name, source in node.inputs.items() if isinstance(source, OutputOf)}
        return {name: self.results[source.node].output(source.kind) for name, source in sources.items()}

    def fingerprints(self, node: Node) -> dict[str, Fingerprint]:
        """Return what the records of a node's inputs say about the models in them, by file."""
        upstream = [self.results[source.node] for source in node.inputs.values() if isinstance(source, OutputOf)]
        return {digest: fingerprint for record in upstream for digest, fingerprint in record.fingerprints.items()}

    def cause(self, node: Node) -> str | None:
        """Return the first node upstream of this one that is not a hit, if any."""
        upstream = [s.node for s in node.inputs.values() if isinstance(s, OutputOf)]
        return next((self.causes[name] for name in upstream if name in self.causes), None)

    def _digest(self, origin: SplitOf | CodeOf | ModelFile) -> str:
        if isinstance(origin, SplitOf):
            return self._data().digest(origin.split)
        if isinstance(origin, CodeOf):
            return code_digest(self.recipe.folder, origin.reference)
        return self._model_digest(origin.role)

    def _data(self) -> DataSource:
        if self.data is None:
            raise RecipeError("the recipe has no data", hint="add `data:` to the recipe")
        return self.data

    def _model_digest(self, role: str) -> str:
        return digest_of_model(self.model_files[role], self._file_digest)

    def _file_digest(self, path: Path) -> str:
        return self.digests.remembered(path, "", partial(digest_of_file, path))


def resolve(
    recipe: Recipe, store: Store, until: str | None = None, force_from: str | None = None, *, devices: bool = True
) -> Resolution:
    """Resolve the recipe's chain and files; RecipeError if a file is missing or a named stage does not exist.

    `devices` says whether every device that the recipe measures on has to be ready here.
    """
    digests = FileDigests(store.file_digests)
    chain = build_chain(recipe)
    if until is not None:
        last = step_index(recipe, until)
        chain.nodes = [node for node in chain.nodes if node.step <= last]
    files = find_files(recipe)
    if devices:
        _check_devices(chain)
    data, forced = _data_source(recipe, digests), _forced(chain, force_from)
    _tell_samples(chain, files, data, digests)
    return Resolution(recipe, chain, data, files, digests, forced=forced, remarks=_remarks(chain))


def _tell_samples(chain: Chain, files: Mapping[str, Path], data: DataSource | None, digests: FileDigests) -> None:
    """Give the first node the shapes of the data's samples, if its result on the model depends on them."""
    node = chain.nodes[0]  # opens the model: `build_chain` lets nothing stand before it
    stage = stages()[node.stage]
    if data is not None and isinstance(stage, AsksForSamples) and stage.asks_for_samples(node.config, files, digests):
        config = node.config.model_copy(update={"samples": data.shapes()})
        chain.nodes[0] = replace(node, config=config)


def _remarks(chain: Chain) -> tuple[str, ...]:
    """Return a remark for each target that has one."""
    by_target: dict[str, str | None] = {}
    measurers = [stage for stage in stages().values() if isinstance(stage, MeasuresOnTarget)]
    for node in chain.nodes:
        for name in node.targets:
            if name not in by_target:
                remarks = (measurer.remark(name, chain.recipe.folder) for measurer in measurers)
                by_target[name] = next((remark for remark in remarks if remark), None)
    return tuple(remark for remark in by_target.values() if remark)


def _check_devices(chain: Chain) -> None:
    """Check that every device is known and ready now rather than after hours of training."""
    for node in chain.nodes:
        stage = stages()[node.stage]
        if isinstance(stage, DependsOnDevice):
            try:
                stage.device(node.config, chain.recipe.folder, node.axis)
            except (DeviceError, RecipeError) as error:
                where = where_of_target(chain.recipe, chain.recipe.steps[node.step], node.stage, node.config)
                raise RecipeError(error.what, where=where, hint=error.hint) from error


def _forced(chain: Chain, stage: str | None) -> frozenset[str]:
    """Return the nodes of a stage, and all nodes downstream of them."""
    forced: set[str] = set()
    index = step_index(chain.recipe, stage) if stage else None
    for node in chain.nodes:
        upstream = {source.node for source in node.inputs.values() if isinstance(source, OutputOf)}
        # A baseline stands at the step that needed it first, and is not what this step makes.
        own = node.step == index and node.id.partition(":")[0] != BASELINE
        if own or upstream & forced:
            forced.add(node.id)
    return frozenset(forced)


def _data_source(recipe: Recipe, digests: FileDigests) -> DataSource | None:
    if recipe.data is None:
        return None
    try:
        return data_source(recipe.data, recipe.folder, recipe.seed, digests, recipe.threads)
    except RecipeError as error:
        where = recipe.source.where(tuple(str(error.where).split(".")))
        raise RecipeError(error.what, where=where, hint=error.hint) from error


def step_index(recipe: Recipe, name: str) -> int:
    """Return the position of a stage named by `--until` or `--force-from`."""
    for step in recipe.steps:
        if step.id == name:
            return step.index
    raise RecipeError(f"the recipe has no stage {name!r}", hint=nearest(name, [step.id for step in recipe.steps]))


def make_action(
    stage_name: str, config: StageConfig, axis: str | None, inputs: Mapping[str, str], recipe: Recipe
) -> Action:
    """Return the full pre-image of one stage run."""
    stage = stages()[stage_name]
    device = stage.device(config, recipe.folder, axis) if isinstance(stage, DependsOnDevice) else None
    packages = stage.packages_for(axis) if isinstance(stage, DependsByAxis) else stage.packages
    added = stage.packages_of(config) if isinstance(stage, DependsBySettings) else ()
    return Action(
        stage=stage_name,
        version=stage.version,
        axis=axis,
        config=config.model_dump(mode="json", by_alias=True),
        inputs=dict(inputs),
        packages={name: package_version(name) for name in (*packages, *added)},
        # Not for others: another seed would run again what draws no numbers.
        seed=recipe.seed if stage.seeded else None,
        threads=recipe.threads if stage.seeded else None,
        device=dict(device) if device else None,  # a stage that uses no target has none
    )


def make_plan(recipe: Recipe, store: Store, until: str | None = None, force_from: str | None = None) -> Plan:
    """Return a line for each action: hit, run or resume, and the reason."""
    resolution = resolve(recipe, store, until, force_from)
    return Plan(actions=tuple(plan_node(node, resolution, store) for node in resolution.chain.nodes))


def plan_node(node: Node, resolution: Resolution, store: Store) -> PlannedAction:
    """Look up one node in the store, and remember what that means for the nodes after it."""
    cause, action = resolution.cause(node), resolution.action(node)
    key = action.key if action else None
    recorded = store.records.get(key) if key else None
    if action is not None and isinstance(recorded, ActionRecord) and node.id not in resolution.forced:
        resolution.results[node.id] = recorded
        return PlannedAction(id=node.id, stage=node.stage, axis=node.axis, status="hit", reason="unchanged", key=key)
    resolution.causes[node.id] = cause or node.id
    status: Literal["run", "resume"] = "resume" if _can_resume(key, node, resolution, store) else "run"
    reason = _reason(node, action, recorded, cause, store, resolution)
    return PlannedAction(id=node.id, stage=node.stage, axis=node.axis, status=status, reason=reason, key=key)


def _can_resume(key: str | None, node: Node, resolution: Resolution, store: Store) -> bool:
    return key is not None and node.id not in resolution.forced and store.can_resume(key)


def _reason(
    node: Node,
    action: Action | None,
    recorded: ActionRecord | str | None,
    cause: str | None,
    store: Store,
    resolution: Resolution,
) -> str:
    """Return why a node is not a hit: its own reason first, else the node that it follows."""
    if isinstance(recorded, str):
        return recorded
    if node.id in resolution.forced and cause is None:
        return "forced"
    if action is None:
        return f"follows {cause}"
    recipe = resolution.recipe.name
    failed = failed_before(node.id, action.key, store, recipe)
    if failed:
        return failed
    own = reason_to_run(action, store, recipe)
    # Of all actions after a change it could be said that their input changed; the first one is what the user looks for.
    return f"follows {cause}" if cause and own.startswith(("input", "first run", "record missing")) else own


def host() -> str:
    """Return the name of this machine, for provenance."""
    return platform.node()
