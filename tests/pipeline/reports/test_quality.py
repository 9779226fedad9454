"""Check which metric stands for a model, and how it is written."""

import pytest

from pipeline.reports.quality import quality_of, quality_text, short_text


@pytest.mark.parametrize(
    ("metrics", "chosen", "expected"),
    [
        (("macro_f1", "accuracy", "params"), None, ("accuracy",)),
        (("mae", "mse"), None, ("mse",)),
        (("mae[age]", "mse[age]", "accuracy[kind]"), None, ("mse[age]", "accuracy[kind]")),
        (("mae", "mse"), ("mae",), ("mae",)),
        (("mae", "mse"), ("mae", "mse"), ("mae",)),
        (("accuracy", "top_5"), ("top_5", "accuracy"), ("top_5",)),
        (("accuracy", "score"), ("mine.metrics:score",), ("score",)),
        (("mse", "params"), ("mae",), ("mse",)),
        (("confidence", "accuracy"), ("confusion_matrix", "accuracy"), ("accuracy",)),
        (("mae", "mse"), {"age": ("mae",)}, ("mae",)),
        (
            ("accuracy[kind]", "mae[age]", "mse[age]"),
            {"age": ("mae",), "kind": ("accuracy",)},
            ("mae[age]", "accuracy[kind]"),
        ),
        (("accuracy[kind]", "mae[age]", "mse[age]"), {"age": ("mae",)}, ("mae[age]", "accuracy[kind]")),
        (("accuracy[kind]", "mae[age]", "mse[age]"), ("mae", "accuracy"), ("mae[age]", "accuracy[kind]")),
        ((), ("mae",), ()),
    ],
)
def test_what_the_recipe_chose_comes_first_for_each_output(metrics, chosen, expected):
    assert quality_of(metrics, chosen) == expected


def test_numbers_are_written_by_their_declaration():
    assert quality_text("accuracy", 0.5, 100) == "50.00 ± 9.6"
    assert quality_text("top_5", 0.5, 100) == "50.00 ± 9.6"
    assert quality_text("macro_f1", 0.5, 100) == "50.00"  # no share of samples: Wilson's interval is not its own
    assert quality_text("mae", 0.123456, 100) == "0.1235"
    assert quality_text("score", 0.5, 100) == "0.5"
    assert (short_text("accuracy[kind]", 0.5), short_text("mae[age]", 12.5)) == ("50.00%", "12.5")
