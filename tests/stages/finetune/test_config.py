import json

import pytest
from pydantic import ValidationError

from stages.finetune.config import FinetuneConfig


def config(**settings):
    return FinetuneConfig.model_validate_json(json.dumps(settings))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"momentum": 0.9}, "momentum is of sgd and rmsprop"),
        ({"optimizer": "sgd", "nesterov": True}, "nesterov needs"),
        ({"warmup": 1, "epochs": 3}, "another schedule"),
        ({"warmup": 3, "epochs": 3, "schedule": "cosine"}, "leaves nothing of 3"),
        ({"class_weights": {"1": -1.0}}, "class 1 is wrong"),
        ({"clip": {"norm": 1.0, "value": 1.0}}, "either norm or value"),
        ({"clip": {}}, "either norm or value"),
        ({"distill": {"weight": 0}}, "greater than 0"),
        ({"distill": {"features": {"layers": []}}}, "at least 1 item"),
        ({"regularize": {"groups": 0}}, "greater than 0"),
        ({"regularize": {"groups": 0.1}, "strategy": "mirrored"}, "leave strategy out"),
        ({"regularize": {"groups": 0.1}, "quantization_aware": {}}, "prepares a cut"),
        ({"label_smoothing": 1.0}, "less than 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        config(**settings)


def test_every_setting_is_described():
    schema = FinetuneConfig.model_json_schema()["properties"]
    plain = {"epochs", "optimizer", "learning_rate", "plateau", "step", "exponential", "augment", "clip"}
    assert {name for name, entry in schema.items() if "description" not in entry} <= plain


def test_classes_are_numbers_in_a_recipe_and_come_back_from_a_record():
    made = config(class_weights={3: 2.0})
    assert made.class_weights == {3: 2.0}
    assert FinetuneConfig.model_validate_json(made.model_dump_json()) == made
