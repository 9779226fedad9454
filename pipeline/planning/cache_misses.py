"""Explain in a few words why an action is not a hit, by comparing it with the nearest recorded one."""

from __future__ import annotations

import json
from typing import Any

from pipeline.contracts.discovery import stages
from pipeline.contracts.events import INTERRUPTED
from pipeline.errors import first_line
from pipeline.records.manifest import Action, Provenance
from pipeline.records.values import Json
from pipeline.store import Store

SHOWN_CHARACTERS = 40
FAILURE_CHARACTERS = 100


def failed_before(action_id: str, key: str, store: Store, recipe: str) -> str | None:
    """Return `failed last time: REASON` if the same action failed in the latest run of this `recipe` to reach it."""
    entry = store.runs.last_try(recipe, action_id)
    if entry is None or entry["key"] != key or entry.get("status") not in ("failed", "skipped"):
        return None
    reason = first_line(str(entry.get("reason", "")))
    if reason == INTERRUPTED:
        return f"{INTERRUPTED} last time"
    return _cut(f"failed last time: {reason}" if entry["status"] == "failed" else reason, FAILURE_CHARACTERS)


def reason_to_run(action: Action, store: Store, recipe: str) -> str:
    """Return one reason: `prune.ratio 0.5 → 0.3`, `input model changed`, `tensorflow 2.20 → 2.21`, `first run`.

    The action is compared with those in runs of this `recipe` (by its name) and, for runs that were killed before they
    wrote a manifest, with actions on the same model. A difference from another recipe does not count as a change.
    """
    recorded = list(store.records.actions(action.stage, action.axis))
    own_keys = store.runs.keys_of(recipe) if recorded else frozenset()
    recorded = [
        (old, made) for old, made in recorded if old.key in own_keys or _was_killed_on(old, made, action, store)
    ]
    if not recorded:
        return "first run"
    # The nearest has the fewest differences; among equals, the most recent wins: times are ISO 8601 in UTC,
    # which sort as text.
    recorded.sort(key=lambda one: one[1].finished_at, reverse=True)
    wanted = action.model_dump(mode="json")
    nearest = min((differences(old.model_dump(mode="json"), wanted) for old, _ in recorded), key=len)
    if not nearest:
        return "record missing"
    return nearest[0] if len(nearest) == 1 else f"{nearest[0]} (+{len(nearest) - 1} more)"


def _was_killed_on(old: Action, made: Provenance, wanted: Action, store: Store) -> bool:
    """Return whether an action was recorded by a run without a manifest, on a model that is wanted now."""
    return not store.runs.has(made.run_id) and _of_one_model(old, wanted)


def _of_one_model(old: Action, new: Action) -> bool:
    """Return whether two actions of one stage share a model among their inputs; for `load`, a file."""
    models = stages()[new.stage].inputs or new.inputs
    return any(name in old.inputs and old.inputs[name] == new.inputs.get(name) for name in models)


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """List what differs between two actions of one stage, most visible first: settings, inputs, versions."""
    stage = new["stage"]
    changes = [f"{stage}.{path} {_shown(a)} → {_shown(b)}" for path, a, b in _changed(old["config"], new["config"])]
    changes += [f"input {name} changed" for name, _, _ in _changed(old["inputs"], new["inputs"])]
    changes += [f"{name} {a} → {b}" for name, a, b in _changed(old["packages"], new["packages"])]
    for name in ("seed", "threads"):
        if old[name] != new[name]:
            changes.append(f"{name} {_shown(old[name])} → {_shown(new[name])}")
    if old["version"] != new["version"]:
        changes.append(f"{stage} stage version {old['version']} → {new['version']}")
    changes += [f"device {name} {a} → {b}" for name, a, b in _changed(old["device"] or {}, new["device"] or {})]
    return changes


def _changed(old: Json, new: Json, prefix: str = "") -> list[tuple[str, Json, Json]]:
    """Return the leaves at which two JSON values differ, as (path, old, new)."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [
            leaf for key in keys for leaf in _changed(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
        ]
    return [] if old == new else [(prefix, old, new)]


def _shown(value: Json) -> str:
    return _cut(json.dumps(value, ensure_ascii=False), SHOWN_CHARACTERS)


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
