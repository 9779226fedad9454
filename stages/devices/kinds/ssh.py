"""Measure on a board that the user's own `ssh` reaches (kind `ssh`), with the device runner there.

It uses the OpenSSH client, so that the user's configuration, agent, jump hosts and known hosts apply. It never prompts
and never trusts an unknown host. The runner and each artifact are sent once, named by their sha256, into a folder of
the board that keeps the newest few. A lost connection is reestablished, and a measurement resumes after its last
complete round.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from pydantic import Field

from pipeline.errors import DeviceError
from pipeline.records.artifacts import Kind
from pipeline.records.keys import digest_of_file
from pipeline.records.metrics import Metric
from pipeline.store.files import publish
from pipeline.system.processes import TIMEOUT_S, Ended, ending, last_lines, run_process
from stages.devices.kinds.cpu import affinity_fingerprint, affinity_options
from stages.devices.kinds.qemu.sysroot import targets_folder
from stages.devices.metrics import TIMED
from stages.devices.runner_file import runner_file
from stages.devices.target import (
    PROBING,
    CostUnit,
    Probed,
    Sampling,
    Say,
    Target,
    TargetSettings,
    document_of,
    measurement_of,
    series_times,
)
from stages.formats.format import OnDevice
from stages.formats.registry import files_beside, kinds_that

if TYPE_CHECKING:
    from stages.devices.measurement import Measurement

STRICT = ("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=15")
# A board that loses power closes no connection: after 30 seconds without an answer it counts as lost.
ALIVE = ("-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3")
# 255 is ssh's own; the other two are what a shell gives for a program that is missing, or was ended by SIGKILL.
SSH_FAILED, NOT_FOUND, KILLED = 255, 127, 137
TRIES, PAUSE_S = 3, 2.0
KEPT_FILES = 20
IDENTITY = ("cpu_model", "machine", "system", "cores", "numpy")  # and its runtimes
# ssh's messages in our words, with what to do; `{host}` is filled in. The first one found in its stderr applies.
REFUSALS = (
    ("IDENTIFICATION HAS CHANGED", "{host} shows another host key than before", "find out why; ssh-keygen -R removes"),
    ("Host key verification failed", "{host} is not a known host", "ssh {host} once by hand, and compare its key"),
    ("Permission denied", "{host} refuses the key", "ssh-copy-id {host}, or name the key in ~/.ssh/config"),
    ("Could not resolve hostname", "{host} has no address", "name the host in ~/.ssh/config, or correct `host`"),
    ("Bad configuration option", "the ssh configuration is wrong", "ssh -G {host} shows how it is read"),
)
# Runs on the board: stores what comes on stdin under its digest, if it is complete; deletes the oldest files.
STORE = """
import hashlib, os, shutil, sys
folder, digest, kept = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.makedirs(folder, exist_ok=True)
partial, found = os.path.join(folder, digest + '.partial'), hashlib.sha256()
try:
    with open(partial, 'wb') as file:
        for piece in iter(lambda: sys.stdin.buffer.read(1 << 20), b''):
            found.update(piece)
            file.write(piece)
    if found.hexdigest() != digest: raise OSError('the file did not arrive whole')
except OSError as error:
    if os.path.exists(partial): os.unlink(partial)
    sys.exit(str(error))
os.replace(partial, os.path.join(folder, digest))
names = sorted((os.path.join(folder, n) for n in os.listdir(folder)), key=os.path.getmtime)
for name in names[:-kept]: shutil.rmtree(name) if os.path.isdir(name) else os.unlink(name)
"""
# It touches the file, since STORE deletes those that were used least recently. The status 66 is its own: Python's
# errors give 1, a shell's 126 and more.
HAS = """
import hashlib, os, sys
path, found = os.path.join(sys.argv[1], sys.argv[2]), hashlib.sha256()
try:
    with open(path, 'rb') as file:
        for piece in iter(lambda: file.read(1 << 20), b''): found.update(piece)
    os.utime(path)
except OSError: pass
sys.exit(0 if found.hexdigest() == sys.argv[2] else 66)
"""
# Gives existing files their names in a separate folder, from which a model of several files is loaded. Separate, since
# a model names its data as it likes, and Python looks for modules where the runner lies.
NAME = """
import os, shutil, sys
place, names = sys.argv[1], sys.argv[2:]
os.makedirs(place, exist_ok=True)
for source, name in zip(names[::2], names[1::2]):
    target = os.path.join(place, name)
    if os.path.exists(target): os.unlink(target)
    try: os.link(source, target)
    except OSError: shutil.copyfile(source, target)
os.utime(place)
"""


class SshSettings(TargetSettings):
    """Configure the board: `host` as `ssh` takes it; `python` is the board's; `folder` keeps the runner and artifacts.

    `options` go to ssh unchanged, such as `[-F, FILE]`; `affinity` are processors of the board, by number.
    """

    # A name that begins with `-` would be an option, and some options of ssh run commands on this machine.
    host: str = Field(min_length=1, pattern=r"^[^-\s]\S*$")
    python: str = "python3"
    folder: str = ".cache/secateur-runner"
    options: tuple[str, ...] = ()
    affinity: tuple[int, ...] = ()


class SshDriver:
    """Measure times on a board."""

    settings: ClassVar[type[TargetSettings]] = SshSettings
    metrics: ClassVar[tuple[Metric, ...]] = TIMED
    formats: ClassVar[tuple[Kind, ...]] = kinds_that(OnDevice)
    cost_unit: ClassVar[CostUnit] = "nanoseconds"

    def fingerprint(self, target: Target) -> dict[str, str]:
        return dict(_known(target)) | affinity_fingerprint(target)

    def set_up(self, target: Target, say: Say) -> None:
        host = target.settings.host
        say(f"sending the device runner to {host}")
        runner = _send(target, runner_file(), "the device runner")
        done = _ssh(target, _quoted(target.settings.python, runner, "--probe"), "the device runner", TIMEOUT_S)
        if done.returncode != 0:
            _explain(target, done, "the device runner")
        document = json.loads(done.stdout)
        runtimes = [name for name in document["runtimes"] if document[name]]
        if not document["numpy"] or not runtimes:
            missing = "numpy" if not document["numpy"] else "a runtime"
            install_command = _quoted(target.settings.python, "-m", "pip", "install", "numpy", "ai-edge-litert")
            hint = _quoted("ssh", *target.settings.options, host, install_command)
            raise DeviceError(f"{host} has no {missing}", where=str(target.file), hint=hint)
        device = {name: str(document[name]) for name in (*IDENTITY, *runtimes) if document[name] is not None}
        record = _record(target)
        record.parent.mkdir(parents=True, exist_ok=True)
        publish(record, json.dumps({"host": host, "device": device}, indent=1).encode(), record.parent)

    def measure(self, target: Target, model: Path, sampling: Sampling, name: str, timeout_s: float) -> Measurement:
        known = _known(target)
        options = [*sampling.arguments(), *affinity_options(target)]
        measurement = measurement_of(_run_there(target, (model, *files_beside(model)), options, name, timeout_s), name)
        seen = {"cpu_model": measurement.cpu_model, "machine": measurement.machine}
        # A board may have been replaced under the same name: its times would be kept under the key of another one.
        if any(known[key] != value for key, value in seen.items()):
            what = f"{target.settings.host} is {measurement.cpu_model}, and was {known['cpu_model']} when it was set up"
            raise DeviceError(what, where=name, hint=target.set_up_command)
        return measurement

    def probe(self, target: Target, archive: Path, name: str, options: Sequence[str] = ()) -> Probed:
        series = ["--series", *PROBING.arguments(), *affinity_options(target), *options]
        return series_times(_run_there(target, (archive,), series, name, TIMEOUT_S), name)

    def document(self, target: Target, model: Path, options: Sequence[str], name: str) -> dict[str, Any]:
        return document_of(_run_there(target, (model, *files_beside(model)), options, name, TIMEOUT_S), name)


class LostConnectionError(DeviceError):
    """Raised if the connection broke, or could not be made for now."""


def _run_there(target: Target, files: Sequence[Path], options: Sequence[str], name: str, timeout_s: float) -> Ended:
    """Run the runner on the board, reconnecting if the connection is lost; raises DeviceError.

    The first of the `files` is the model, or an archive.
    """
    for attempt in range(1, TRIES + 1):
        try:
            # Within each try: what has arrived is not sent again, and a board that rebooted may have lost it.
            runner, file = _send(target, runner_file(), "the device runner"), _send_all(target, files, name)
            done = _ssh(target, _quoted(target.settings.python, runner, file, *options), name, timeout_s)
            if done.returncode in (SSH_FAILED, NOT_FOUND, KILLED):
                _explain(target, done, name)
            return done
        except LostConnectionError:
            if attempt == TRIES:
                raise
            time.sleep(PAUSE_S * attempt)
    raise AssertionError  # the last attempt returns or raises


def _send_all(target: Target, files: Sequence[Path], name: str) -> str:
    """Return the board's path of the first file; several lie under their own names in one folder there."""
    sent = [_send(target, path, name) for path in files]
    if len(sent) == 1:
        return sent[0]
    settings, directory = target.settings, f"{sent[0]}.files"
    words = [word for remote, path in zip(sent, files, strict=True) for word in (remote, path.name)]
    done = _ssh(target, _quoted(settings.python, "-c", NAME, directory, *words), name, TIMEOUT_S)
    if done.returncode == 1:
        what = f"{settings.host} can't keep the files: {last_lines(done.stderr)}"
        raise DeviceError(what, where=name, hint=f"make room in {settings.folder} there, or name another `folder`")
    if done.returncode:
        _explain(target, done, name)
    return f"{directory}/{files[0].name}"


def _send(target: Target, path: Path, name: str) -> str:
    """Return a file's path on the board, sending it if it is missing."""
    digest, settings = digest_of_file(path).removeprefix("sha256:"), target.settings
    check = _ssh(target, _quoted(settings.python, "-c", HAS, settings.folder, digest), name, TIMEOUT_S)
    if check.returncode not in (0, 66):
        _explain(target, check, name)
    if check.returncode:
        keep = _quoted(settings.python, "-c", STORE, settings.folder, digest, str(KEPT_FILES))
        sent = _ssh(target, keep, name, TIMEOUT_S, path.read_bytes())
        if sent.returncode == 1:  # the status of `sys.exit` with a text: STORE could not write
            what = f"{settings.host} can't keep the file: {last_lines(sent.stderr)}"
            raise DeviceError(what, where=name, hint=f"make room in {settings.folder} there, or name another `folder`")
        if sent.returncode:
            _explain(target, sent, name)
    return f"{settings.folder}/{digest}"


def _ssh(target: Target, command: str, name: str, timeout_s: float, stdin: bytes = b"") -> Ended:
    settings = target.settings
    return run_process(
        ["ssh", *STRICT, *ALIVE, *settings.options, settings.host, command], name, timeout_s, given=stdin
    )


def _explain(target: Target, done: Ended, name: str) -> NoReturn:
    """Raise the DeviceError, or LostConnectionError, that a command over ssh ended in."""
    host, output = target.settings.host, done.stderr.decode(errors="replace")
    if done.returncode == NOT_FOUND:
        hint = f"install Python 3.9 or newer there, or name it with `python` in {target.file.name}"
        raise DeviceError(f"{host} has no {target.settings.python}", where=name, hint=hint)
    if done.returncode == KILLED:
        raise DeviceError(f"the device runner was killed on {host}", where=name, hint="it has too little memory")
    if done.returncode != SSH_FAILED:
        raise DeviceError(f"a command on {host} {ending(done.returncode)}", where=name, hint=last_lines(done.stderr))
    for sign, what, hint in REFUSALS:
        if sign in output:
            raise DeviceError(what.format(host=host), where=name, hint=hint.format(host=host))
    raise LostConnectionError(
        f"the connection to {host} failed",
        where=name,
        hint=f"ssh said: {last_lines(done.stderr)}; run again (a run goes on after its last finished round)",
    )


def _quoted(*words: str) -> str:
    from shlex import join

    # ssh joins its arguments by blanks, and the board's shell splits them again.
    return join(words)


def _record(target: Target) -> Path:
    return targets_folder() / "ssh" / f"{target.name}.json"


def _known(target: Target) -> dict[str, str]:
    """Return what the board was at set-up; DeviceError if this host was not set up."""
    try:
        record: dict[str, Any] = json.loads(_record(target).read_bytes())
    except (OSError, ValueError):
        record = {}
    if record.get("host") != target.settings.host:
        hint = target.set_up_command
        raise DeviceError(f"the target {target.name} is not set up", where=str(target.file), hint=hint)
    return dict(record["device"])
