import json
from importlib.metadata import version


def test_the_version_is_that_of_the_distribution(call):
    assert call("version") == f"secateur {version('secateur')}\n"
    assert json.loads(call("version", "--json"))["secateur"] == version("secateur")
