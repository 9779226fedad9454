"""Select what a run delivers: its proven exports, and those that are left out, with the reason."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pipeline.errors import StoreError, first_line
from pipeline.records.manifest import Output, RunManifest
from pipeline.records.roles import files_of, is_baseline, is_yardstick, makes_files, makes_model, proves

PART = r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*"
# `manifest.json` is the name of what `secateur export` writes beside the folders of formats.
DELIVERED = re.compile(rf"(?!manifest\.json/){PART}/{PART}/{PART}")


def left_out(manifest: RunManifest) -> dict[str, str]:
    """Return the exports (`format/scheme`) that were not made, or not verified as wanted, with the reason."""
    reasons: dict[str, str] = {}
    for entry in manifest.stages:
        made = makes_files(entry) and not is_baseline(entry)
        if (made or proves(entry)) and entry.status in ("failed", "skipped"):
            subject = "its verification" if proves(entry) else f"its {entry.stage}"
            why = f"was never reached, {first_line(entry.reason)}"
            why = f"failed: {first_line(entry.reason)}" if entry.status == "failed" else why
            reasons.setdefault(str(entry.axis), f"{subject} {why}")
    return reasons


def wanted_files(manifest: RunManifest) -> dict[str, str]:
    """Return `FORMAT/SCHEME/name` and the digest of each proven export, and of the Keras model that they come from.

    What a later stage made of an export takes its place.
    """
    exports: dict[str, list[Output]] = {}
    keras: Output | None = None
    unproven = left_out(manifest)
    for entry in manifest.stages[1:]:  # the first opens the source, which is the user's own
        if is_baseline(entry) or is_yardstick(entry):
            continue
        if entry.axis is not None and files_of(entry) and entry.axis not in unproven:
            exports[entry.axis] = files_of(entry)
        elif makes_model(entry):
            keras = next((output for output in entry.outputs if output.kind == "keras-model"), keras)
    files = {
        f"{axis}/{file.name}": file.digest for axis, made in exports.items() for output in made for file in output.files
    }
    if files and keras is not None:
        files |= {f"keras/float32/{file.name}": file.digest for file in keras.files}
    return files


def require_inside(files: Iterable[str], run_id: str) -> None:
    """Raise StoreError if a manifest was edited so that a file would not land at `FORMAT/SCHEME/name` of its folder."""
    for name in files:
        # By what runs write, not by what is known to lead out: `..`, a root, a null byte or a line break is no part.
        if not DELIVERED.fullmatch(name):
            what = f"the manifest of run {run_id} names a file that is not FORMAT/SCHEME/name"
            raise StoreError(what, where=repr(name), hint="no run writes that: do not use this store")
