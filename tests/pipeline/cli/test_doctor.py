import json

from pipeline.cli.doctor import PACKAGES
from pipeline.errors import SecateurError


def test_all_is_looked_at_and_what_fails_comes_with_what_to_do(call, tmp_path):
    (tmp_path / "precious.txt").write_text("a folder with other things in it")
    document = json.loads(call("doctor", "--store", tmp_path, "--json", code=SecateurError.exit_code))
    found = {finding["name"]: finding for finding in document["findings"]}
    assert {"python", *PACKAGES, "stages", "store", "cpus"} <= found.keys()
    assert (found["python"]["ok"], found["stages"]["ok"], found["store"]["ok"]) == (True, True, False)
    assert "prune" in found["stages"]["seen"]
    assert found["store"]["hint"]
    assert document["ok"] is False


def test_a_store_that_is_still_to_be_made_is_well_where_its_folder_is(call, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.cli.doctor.PACKAGES", ())
    lines = call("doctor", "--store", tmp_path / "new" / "store").splitlines()
    assert any(line.startswith("✔ store") and line.endswith(str(tmp_path / "new" / "store")) for line in lines)
    assert not (tmp_path / "new").exists()
