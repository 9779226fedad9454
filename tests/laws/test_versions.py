import importlib.util
import json
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location(
    "golden_sources", Path(__file__).parents[1] / "stages" / "golden_sources.py"
)
golden_sources = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(golden_sources)


CURRENT = golden_sources.current()


@pytest.mark.parametrize("name", sorted(CURRENT))
def test_a_changed_source_has_a_new_version_or_a_statement_that_outputs_are_the_same(name):
    golden = json.loads(golden_sources.GOLDEN.read_text())
    assert CURRENT[name] == golden[name], (
        f"{name} changed: raise its version if equal inputs now give other outputs, "
        "then run python tests/stages/golden_sources.py"
    )


def test_comments_and_docstrings_do_not_count_and_code_does(tmp_path, monkeypatch):
    monkeypatch.setattr(golden_sources, "ROOT", tmp_path)
    texts = {
        "plain": "def f():\n    return 1\n",
        "worded": '"""M."""\ndef f():\n    """D."""\n    return 1  # why\n',
        "other": "def f():\n    return 2\n",
    }
    digests = {}
    for name, text in texts.items():
        (tmp_path / "m.py").write_text(text)
        digests[name] = golden_sources.source_digest([tmp_path / "m.py"])
    assert digests["plain"] == digests["worded"] != digests["other"]
