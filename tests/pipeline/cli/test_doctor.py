import json

from pipeline.cli.doctor import PACKAGES
from pipeline.errors import SecateurError
from pipeline.reports.command_lines import SURGEON, install, install_locked, install_optional
from pipeline.system.installed import package_version


def test_all_is_looked_at_and_what_fails_comes_with_what_to_do(call, tmp_path):
    (tmp_path / "precious.txt").write_text("a folder with other things in it")
    document = json.loads(call("doctor", "--store", tmp_path, "--json", code=SecateurError.exit_code))
    found = {finding["name"]: finding for finding in document["findings"]}
    assert {"python", *PACKAGES, "stages", "store", "cpus"} <= found.keys()
    assert (found["python"]["ok"], found["stages"]["ok"], found["store"]["ok"]) == (True, True, False)
    assert "prune" in found["stages"]["seen"]
    assert found["store"]["hint"]
    assert document["ok"] is False


def test_what_only_some_formats_need_may_be_absent_and_comes_with_its_command(call, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.cli.doctor.PACKAGES", ())
    absent = ("openvino", "ethos-u-vela", "distributed")

    def seen(name):
        return "absent" if name in absent else package_version(name)

    monkeypatch.setattr("pipeline.cli.doctor.package_version", seen)
    monkeypatch.setattr("pipeline.cli.doctor.FREE_BYTES_WANTED", 0)
    lines = call("doctor", "--store", tmp_path / "store").splitlines()  # and exits with 0
    for name in absent:
        place = next(index for index, line in enumerate(lines) if line.startswith(f"· {name} "))
        assert lines[place].endswith("absent; optional")
        assert lines[place + 1].strip() == install_optional(name)


def test_what_everything_needs_comes_with_the_command_that_repairs_it(call, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.cli.doctor.PACKAGES", ("kerassurgeon", "onnx"))
    monkeypatch.setattr("pipeline.cli.doctor.package_version", lambda name: "absent")
    document = json.loads(call("doctor", "--store", tmp_path / "store", "--json", code=SecateurError.exit_code))
    found = {finding["name"]: finding for finding in document["findings"]}
    for name, hint in (("kerassurgeon", install(*SURGEON)), ("onnx", install_locked())):
        assert found[name] == {"name": name, "ok": False, "seen": "absent", "hint": hint, "needed": True}


def test_a_store_that_is_still_to_be_made_is_well_where_its_folder_is(call, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.cli.doctor.PACKAGES", ())
    lines = call("doctor", "--store", tmp_path / "new" / "store").splitlines()
    assert any(line.startswith("✔ store") and line.endswith(str(tmp_path / "new" / "store")) for line in lines)
    assert not (tmp_path / "new").exists()
