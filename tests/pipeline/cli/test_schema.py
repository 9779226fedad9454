import json

from pipeline.cli.schema import recipe_schema


def test_the_schema_knows_repeats():
    text = json.dumps(recipe_schema())
    assert '"stage.repeat"' in text
    assert '"evaluate"' not in text
