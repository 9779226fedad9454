"""Test a board by ssh: a real sshd on loopback, keys made for the test, and everything that can go wrong."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.contracts.events import Advanced
from pipeline.errors import DeviceError
from stages.benchmark.stage import BenchmarkStage
from stages.devices.kinds import ssh
from stages.devices.kinds.qemu.sysroot import emulator, targets_folder
from stages.devices.profile import Origin, profile
from stages.devices.rounds import load_round
from stages.devices.target import Sampling, Target, find_target, measure
from stages.formats.onnx.convert import convert_onnx

SSHD = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
BRIEF = Sampling(seconds=0.005, min_iterations=3)
pytestmark = pytest.mark.skipif(SSHD is None, reason="sshd is not installed: apt-get install openssh-server")
stage = BenchmarkStage()


@dataclass
class Server:
    """Run a separate sshd, with its keys, and the client's configuration that reaches it."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(SSHD), "-D", "-e", "-f", str(self.folder / "sshd_config")]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("sshd does not listen")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def trust(self, key: str) -> None:
        """Let the client know a host key."""
        public = (self.folder / f"{key}.pub").read_text().split()[:2]
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {' '.join(public)}\n")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(ssh, "PAUSE_S", 0.0)
    if not Path("/run/sshd").exists():
        Path("/run/sshd").mkdir(mode=0o755)  # where sshd, as root, drops its privileges
    folder = tmp_path / "sshd"
    folder.mkdir()
    for key in ("host", "other", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    shutil.copy(folder / "client.pub", folder / "authorized")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\n"
    )
    (folder / "ssh_config").write_text(
        f"Host board\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {folder}/client\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
    )
    found = Server(folder, port)
    found.trust("host")
    found.start()
    yield found
    found.stop()


@pytest.fixture
def make_target(server: Server, tmp_path: Path) -> Callable[..., Target]:
    """Make the target `board`, in a recipe's folder, set up unless told otherwise."""

    def make(python: str = sys.executable, set_up: bool = True, options: str = "") -> Target:
        folder = tmp_path / "recipe"
        folder.mkdir(exist_ok=True)
        (folder / "board.yaml").write_text(
            f"kind: ssh\nhost: board\npython: {python}\nfolder: {tmp_path}/on-board\n"
            f"options: [-F, {server.folder}/ssh_config{options}]\n"
        )
        target = find_target("board", folder)
        if set_up:
            target.driver.set_up(target, lambda _: None)
        return target

    return make


def test_the_whole_stage_runs_on_a_board(server, make_target, model_file, make_benchmark, tmp_path) -> None:
    target = make_target()
    context = make_benchmark(model_file, model_file, rounds=2, seconds=0.005, targets=("board",))
    context.folder = target.file.parent
    result = stage.run(context)
    stage.ensures(context, result)
    assert result.metrics["latency_p50_ms"] > 0
    assert {one.name for one in stage.metrics_on(context.config, context.folder)} >= result.metrics.keys()
    document = json.loads(context.written["latency-samples.json"])
    assert document["target"] == "board"
    assert document["device"]["board.machine"]
    sent = sorted(path.name for path in (tmp_path / "on-board").iterdir())
    assert len(sent) == 2  # the runner and the model, each once
    assert all(len(name) == 64 for name in sent)


def test_a_file_damaged_on_the_board_is_sent_again_and_others_are_not(make_target, tflite_file, tmp_path) -> None:
    target = make_target()
    before = measure(target, tflite_file, BRIEF, "model")
    files = {path.stat().st_size: path for path in (tmp_path / "on-board").iterdir()}
    model = files[tflite_file.stat().st_size]
    (runner,) = (path for path in files.values() if path != model)
    kept, model_bytes = runner.stat().st_ino, model.read_bytes()
    model.write_bytes(model_bytes[:100])
    after = measure(target, tflite_file, BRIEF, "model")
    assert after.output_digests() == before.output_digests()
    assert model.read_bytes() == model_bytes
    assert runner.stat().st_ino == kept


def test_operators_of_an_onnx_file_are_timed_on_the_board(make_target, tiny_xception, tiny_images, tmp_path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(convert_onnx(tiny_xception, "float32"))
    found = profile(make_target(), file, "model", Origin(tiny_xception, {"image": tiny_images[:1]}))
    assert (found.target, found.unit) == ("board", "nanoseconds")
    assert found.total > 0
    heavy = [one for one in found.operators if "Conv" in one.kind or "Gemm" in one.kind]
    assert {"stem", "separable", "head"} <= {layer for one in heavy for layer in one.layers}


def test_old_files_go(make_target, tflite_file, tmp_path) -> None:
    target = make_target()
    for number in range(ssh.KEPT_FILES + 5):
        (tmp_path / "on-board" / f"old{number}").write_text("")
        time.sleep(0.001)
    measure(target, tflite_file, BRIEF, "model")
    assert len(list((tmp_path / "on-board").iterdir())) == ssh.KEPT_FILES


def test_a_lost_connection_is_taken_up_after_the_last_round(server, make_target, tflite_file, make_benchmark) -> None:
    target = make_target()
    context = make_benchmark(tflite_file, tflite_file, rounds=3, seconds=0.005, targets=("board",))
    context.folder = target.file.parent

    class Heard(list):
        def append(self, event) -> None:
            super().append(event)
            if isinstance(event, Advanced):
                server.stop()

    context.heard = Heard()
    with pytest.raises(DeviceError, match="connection to board failed") as caught:
        stage.run(context)
    assert "after its last finished round" in caught.value.hint
    first = load_round(context.work_dir, 0)
    assert first is not None
    assert load_round(context.work_dir, 1) is None
    server.start()
    context.heard = []
    result = stage.run(context)
    assert result.resumed
    assert load_round(context.work_dir, 0) == first


def test_hosts_that_are_not_what_they_were_are_refused(server, make_target) -> None:
    server.trust("other")
    with pytest.raises(DeviceError, match="another host key than before"):
        make_target()
    (server.folder / "known_hosts").write_text("")
    with pytest.raises(DeviceError, match="not a known host") as caught:
        make_target()
    assert caught.value.hint.startswith("ssh board once")
    assert not (server.folder / "known_hosts").read_text()


def test_a_key_that_is_refused(server, make_target) -> None:
    shutil.copy(server.folder / "other.pub", server.folder / "authorized")
    with pytest.raises(DeviceError, match="board refuses the key"):
        make_target()


def test_a_board_without_python_or_room(server, make_target, tmp_path) -> None:
    with pytest.raises(DeviceError, match="board has no /nothing/python3"):
        make_target(python="/nothing/python3")
    (tmp_path / "on-board").write_text("a file where the folder should be")
    with pytest.raises(DeviceError, match="can't keep the file"):
        make_target()


def test_a_board_without_a_runtime_says_which_command_installs_one(make_target, tmp_path) -> None:
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(DeviceError, match="board has no numpy") as caught:
        make_target(python=str(bare))
    assert "-m pip install numpy ai-edge-litert" in caught.value.hint


def test_targets_are_set_up_first_and_another_device_is_noticed(make_target, tflite_file) -> None:
    target = make_target(set_up=False)
    with pytest.raises(DeviceError, match="not set up") as caught:
        measure(target, tflite_file, BRIEF, "model")
    assert caught.value.hint == f"secateur target setup board --folder {target.file.parent}"
    target = make_target()
    record = targets_folder() / "ssh" / "board.json"
    known = json.loads(record.read_text())
    known["device"]["cpu_model"] = "another chip"
    record.write_text(json.dumps(known))
    with pytest.raises(DeviceError, match="and was another chip when it was set up"):
        measure(target, tflite_file, BRIEF, "model")


def test_an_aarch64_board_behind_a_login(server, make_target, tflite_file, tmp_path, monkeypatch, cortex_a72) -> None:
    """The login's Python is an aarch64 one under emulation: whatever is sent runs there, and computes the same."""
    here = measure("cpu", tflite_file, BRIEF, "model")
    board = tmp_path / "python3"
    command = " ".join([*emulator(cortex_a72.system), "-L", str(cortex_a72.root), "-cpu", "cortex-a72"])
    board.write_text(
        f"#!/bin/sh\nexec env -i HOME=/nonexistent PYTHONPATH={cortex_a72.system}/site OPENBLAS_NUM_THREADS=1 "
        f'{command} {cortex_a72.system}/root/usr/bin/python3.11 -S "$@"\n'
    )
    board.chmod(0o755)
    target = make_target(python=str(board))
    assert target.driver.fingerprint(target)["machine"] == "aarch64"
    there = measure(target, tflite_file, BRIEF, "model")
    assert there.cpu_model == "0x41/0xd08"
    assert there.outputs[0].shape == here.outputs[0].shape
    assert len(there.samples_ns) >= 3


def test_a_model_of_two_files_stands_in_a_folder_of_the_board(make_target, make_external, tmp_path) -> None:
    target, model = make_target(), make_external()
    for _ in range(2):
        found = measure(target, model, BRIEF, "model")
    assert found.output_digests() == measure("cpu", model, BRIEF, "model").output_digests()
    (folder,) = (path for path in (tmp_path / "on-board").iterdir() if path.is_dir())
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "model.onnx.data"]
    for number in range(ssh.KEPT_FILES):
        (tmp_path / "on-board" / f"newer{number}").write_text("")
    (tmp_path / "another").write_bytes(model.read_bytes())
    ssh._send(target, tmp_path / "another", "old folders go too")
    ssh._send(target, Path(__file__), "what is sent anew throws out what is oldest")
    assert not folder.exists()
