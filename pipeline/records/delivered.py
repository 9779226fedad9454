"""Select what a run delivers: its proven exports, and those that are left out, with the reason."""

from __future__ import annotations

from pipeline.errors import first_line
from pipeline.records.manifest import Output, RunManifest


def left_out(manifest: RunManifest) -> dict[str, str]:
    """Return the exports (`format/scheme`) that were not made, or not verified as wanted, with the reason."""
    found: dict[str, str] = {}
    for entry in manifest.stages:
        export = entry.stage == "export" and not entry.id.startswith("baseline:")
        if (export or entry.stage == "verify") and entry.status in ("failed", "skipped"):
            what = "its export" if export else "its verification"
            why = f"was never reached, {first_line(entry.reason)}"
            why = f"failed: {first_line(entry.reason)}" if entry.status == "failed" else why
            found.setdefault(str(entry.axis), f"{what} {why}")
    return found


def wanted_files(manifest: RunManifest) -> dict[str, str]:
    """Return `FORMAT/SCHEME/name` and the digest of each proven export, and of the Keras model that they come from."""
    files: dict[str, str] = {}
    keras: Output | None = None
    unproven = left_out(manifest)
    for entry in manifest.stages:
        if entry.stage == "export" and not entry.id.startswith("baseline:") and entry.axis not in unproven:
            for output in entry.outputs:
                files |= {f"{entry.axis}/{file.name}": file.digest for file in output.files}
        elif entry.stage not in ("load", "evaluate") and not entry.id.startswith("control"):
            keras = next((output for output in entry.outputs if output.kind == "keras-model"), keras)
    if files and keras is not None:
        files |= {f"keras/float32/{file.name}": file.digest for file in keras.files}
    return files
